-- KEYS: none
-- ARGV: kind, worker, lease seconds, request
-- Answer: nil | {id, chunk, token, attempt, expires_at, kind, spec, created_at, waited seconds}
local kind, worker, at = ARGV[1], ARGV[2], now()

local function answer(job, chunk, token, attempt, waited)
  local expires = redis.call('ZSCORE', 'aigc:leases', job.id .. ' ' .. chunk)
  local v = redis.call('HMGET', job.key, 'spec', 'created_at')
  return {job.id, chunk, token, attempt, expires, kind, v[1], v[2], string.format('%.6f', waited)}
end

-- The job whose turn it is: the lane, in it the team that is furthest behind its share, of that the job of the lowest rank.
local function next_job()
  for _, lane in ipairs({'normal', 'background'}) do
    local line = ready_key(kind, lane)
    while true do
      local team = redis.call('ZRANGE', line, 0, 0)[1]
      if not team then break end
      local id = redis.call('ZRANGE', line .. ':' .. team, 0, 0)[1]
      local job = id and read(id)
      if job and claimable(job, at) > 0 then return job end
      if id then redis.call('ZREM', line .. ':' .. team, id) end
      enlist(kind, lane, team)
    end
  end
end

local function next_chunk(job)
  if ends(job) then return -1 end
  local due = redis.call('ZRANGEBYSCORE', job.key .. ':again', '-inf', at, 'LIMIT', 0, 1)[1]
  if due then
    redis.call('ZREM', job.key .. ':again', due)
    return tonumber(due)
  end
  -- The cursor never rests on a chunk that is done (of a job that was recovered): what is beyond it can be claimed.
  local next_one = job.cursor + 1
  while redis.call('GETBIT', job.key .. ':done', next_one) == 1 do next_one = next_one + 1 end
  redis.call('HSET', job.key, 'cursor', next_one)
  return job.cursor
end

local seen = redis.call('HGET', 'aigc:claims', ARGV[4])
if seen then
  local id, chunk = string.match(seen, '^(%S+) (%S+)$')
  local job = read(id)
  local token, attempt = held(job, chunk)
  return answer(job, chunk, token, attempt, 0)
end
redis.call('ZADD', 'aigc:workers', at, worker)
if redis.call('SISMEMBER', 'aigc:draining', worker) == 1 then return nil end
promote(kind, at, 16)
local job = next_job()
if not job then return nil end
local chunk = next_chunk(job)

-- Microseconds as the floor of the token: after a rollback of the append-only file no token comes twice.
local token = string.format('%.0f', math.max(tonumber(redis.call('HGET', job.key, 'token') or '0') + 1, math.floor(at * 1000000)))
local errors, losses = tries_of(job, chunk)
local waited = 0
if chunk >= 0 and redis.call('HSETNX', job.key, 'started_at', string.format('%.6f', at)) == 1 then
  local v = redis.call('HMGET', job.key, 'created_at', 'start_at')
  waited = at - math.max(tonumber(v[1]), tonumber(v[2]))
  emit('job.started', job.id, at, {waited_seconds = waited})
end
redis.call('HSET', job.key, 'token', token, 'state', 'running')
redis.call('HSET', job.key .. ':leases', chunk, token .. ' ' .. (errors + losses + 1) .. ' ' .. ARGV[4] .. ' ' .. worker)
redis.call('ZADD', 'aigc:leases', string.format('%.6f', at + tonumber(ARGV[3])), job.id .. ' ' .. chunk)
redis.call('HSET', 'aigc:claims', ARGV[4], job.id .. ' ' .. chunk)

-- Charge the team: its virtual time moves by the pictures of the chunk over its weight.
local line, team = ready_key(kind, job.lane), 'aigc:team:' .. job.team
local pass = tonumber(redis.call('ZSCORE', line, job.team))
local v = redis.call('HMGET', team, 'weight', 'running_max')
local weight = tonumber(v[1] or '1')
redis.call('SET', 'aigc:clock:' .. kind .. ':' .. job.lane, string.format('%.6f', pass))
pass = string.format('%.6f', pass + items_of(job, chunk) / weight)
redis.call('ZADD', line, pass, job.team)
redis.call('HSET', team, 'pass:' .. kind .. ':' .. job.lane, pass)
redis.call('HINCRBY', team, 'running:' .. kind, 1)
if tonumber(v[2] or '0') > 0 then enlist_all(kind, job.team) end
settle(job.id, at)
return answer(job, chunk, token, errors + losses + 1, waited)
