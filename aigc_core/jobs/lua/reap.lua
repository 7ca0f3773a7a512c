-- KEYS: none
-- ARGV: losses at most, records per pass, tickets at most, then kinds
-- Answer: {expired leases, pictures given up, jobs expired, claimable chunks of each kind…}
local at, limit = now(), tonumber(ARGV[2])
local expired, given_up, ended = 0, 0, 0
for _, member in ipairs(redis.call('ZRANGEBYSCORE', 'aigc:leases', '-inf', at, 'LIMIT', 0, limit)) do
  local id, text = string.match(member, '^(%S+) (%S+)$')
  local job, chunk = read(id), tonumber(text)
  expired = expired + 1
  drop(job, chunk)
  redis.call('HINCRBY', job.key, 'attempts_lost', 1)
  local errors, losses = tries_of(job, chunk)
  losses = losses + 1
  redis.call('HSET', job.key .. ':tries', chunk, errors .. ' ' .. losses)
  emit('chunk.lost', id, at, {chunk = chunk, losses = losses})
  if losses >= tonumber(ARGV[1]) then
    local reason = 'its worker vanished ' .. losses .. ' times'
    redis.call('HSET', job.key, 'last_error', 'chunk ' .. chunk .. ': ' .. reason)
    if job.kind == 'generation' then given_up = given_up + items_of(job, chunk) end
    discard(job, chunk, at, 'vanished', reason)
  elseif chunk ~= -1 then
    redis.call('ZADD', job.key .. ':again', at, chunk)
  end
  settle(id, at)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'aigc:expiries', '-inf', at, 'LIMIT', 0, limit)) do
  redis.call('ZREM', 'aigc:expiries', id)
  local job = read(id)
  if job and not FINAL[job.state] and job.stop == '' then
    ended = ended + 1
    redis.call('HSET', job.key, 'stop', 'expired', 'hard', 1, 'not_before', 0)
    emit('job.expired', id, at, {done = job.done, chunk_count = job.chunk_count})
    settle(id, at)
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'aigc:deadlines', '-inf', at, 'LIMIT', 0, limit)) do
  redis.call('ZREM', 'aigc:deadlines', id)
  emit('job.deadline_missed', id, at, {deadline_at = tonumber(redis.call('HGET', J(id), 'deadline_at'))})
end
redis.call('ZREMRANGEBYSCORE', 'aigc:workers', '-inf', at - 86400)

local answer = {expired, given_up, ended}
for i = 4, #ARGV do
  local kind, count, most = ARGV[i], 0, tonumber(ARGV[3])
  promote(kind, at, limit)
  for _, lane in ipairs({'normal', 'background'}) do
    local line = ready_key(kind, lane)
    for _, team in ipairs(redis.call('ZRANGE', line, 0, most - 1)) do
      for _, id in ipairs(redis.call('ZRANGE', line .. ':' .. team, 0, most - 1)) do
        if count >= most then break end
        count = count + claimable(read(id), at)
      end
    end
  end
  answer[#answer + 1] = math.min(count, most)
end
return answer
