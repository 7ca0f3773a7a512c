-- KEYS: aigc:job:<id>
-- ARGV: id, worker, lease seconds
-- Answer: nil, or {chunk, token, attempt, expires_at, kind, spec, created_at, waited seconds}
local key, id, at = KEYS[1], ARGV[1], now()
if redis.call('SISMEMBER', 'aigc:live', id) == 0 then return nil end
if number(key, 'tickets') > 0 then redis.call('HINCRBY', key, 'tickets', -1) end
redis.call('HSET', key, 'ticket_at', at)
if redis.call('HLEN', key .. ':leases') >= number(key, 'window') or claimable(key, at) == 0 then return nil end

local chunk
local over = number(key, 'done') + number(key, 'discarded') >= number(key, 'chunk_count')
if over or redis.call('HGET', key, 'cancel') == '1' or redis.call('HGET', key, 'abort') == '1' then
  chunk = -1
else
  local due = redis.call('ZRANGEBYSCORE', key .. ':again', '-inf', at, 'LIMIT', 0, 1)[1]
  if due then
    redis.call('ZREM', key .. ':again', due)
    chunk = tonumber(due)
  else
    chunk = redis.call('HINCRBY', key, 'cursor', 1) - 1
  end
end

-- Microseconds as the floor of the token: after a rollback of the append-only file no token comes twice.
local token = math.max(number(key, 'token') + 1, math.floor(at * 1000000))
local errors, losses = string.match(redis.call('HGET', key .. ':tries', chunk) or '0 0', '(%d+) (%d+)')
local attempt = tonumber(errors) + tonumber(losses) + 1
local expires = at + tonumber(ARGV[3])
local waited = 0
if not redis.call('HGET', key, 'started_at') then
  waited = at - number(key, 'created_at')
  redis.call('HSET', key, 'started_at', at)
  emit('job.started', id, at, '{}')
end
redis.call('HSET', key, 'token', string.format('%.0f', token), 'state', 'running')
redis.call('HSET', key .. ':leases', chunk, string.format('%.0f %d %s', token, attempt, ARGV[2]))
redis.call('ZADD', key .. ':expiry', expires, chunk)
return {chunk, string.format('%.0f', token), attempt, string.format('%.6f', expires), redis.call('HGET', key, 'kind'),
  redis.call('HGET', key, 'spec'), redis.call('HGET', key, 'created_at'), string.format('%.6f', waited)}
