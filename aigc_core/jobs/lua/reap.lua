-- KEYS: none (walks aigc:live)
-- ARGV: ticket seconds, losses at most, then pairs: kind, messages waiting in the broker
-- Answer: {expired leases, id, kind, tickets, id, kind, tickets, …}
local at, expired = now(), 0
local queued, out = {}, {}
for i = 3, #ARGV, 2 do queued[ARGV[i]] = tonumber(ARGV[i + 1]) end
local live = redis.call('SMEMBERS', 'aigc:live')
for _, id in ipairs(live) do
  local kind = redis.call('HGET', 'aigc:job:' .. id, 'kind')
  out[kind] = (out[kind] or 0) + number('aigc:job:' .. id, 'tickets')
end

local answer = {0}
for _, id in ipairs(live) do
  local key = 'aigc:job:' .. id
  local kind = redis.call('HGET', key, 'kind')
  for _, chunk in ipairs(redis.call('ZRANGEBYSCORE', key .. ':expiry', '-inf', at)) do
    drop(key, chunk)
    expired = expired + 1
    redis.call('HINCRBY', key, 'attempts_lost', 1)
    local errors, losses = string.match(redis.call('HGET', key .. ':tries', chunk) or '0 0', '(%d+) (%d+)')
    losses = tonumber(losses) + 1
    redis.call('HSET', key .. ':tries', chunk, errors .. ' ' .. losses)
    emit('chunk.lost', id, at, cjson.encode({chunk = tonumber(chunk), losses = losses}))
    if losses >= tonumber(ARGV[2]) then
      local reason = 'its worker vanished ' .. losses .. ' times'
      redis.call('HSET', key, 'last_error', 'chunk ' .. chunk .. ': ' .. reason)
      discard(key, id, tonumber(chunk), at, reason)
    elseif chunk ~= '-1' then
      redis.call('ZADD', key .. ':again', at, chunk)
    end
  end
  if redis.call('SISMEMBER', 'aigc:live', id) == 1 then
    local lost = (queued[kind] or 0) < out[kind] and number(key, 'ticket_at') + tonumber(ARGV[1]) < at
    if lost then redis.call('HSET', key, 'tickets', 0) end
    local tickets = 0
    while next_ticket(key, at) == 1 do tickets = tickets + 1 end
    if tickets > 0 then
      answer[#answer + 1] = id
      answer[#answer + 1] = kind
      answer[#answer + 1] = tickets
    end
  end
end
answer[1] = expired
return answer
