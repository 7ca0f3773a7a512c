-- Keys: see enqueue.lua
-- ARGV: count at most, seconds that an attempt may take, attempts per round, seconds that the log is kept
-- Answer: {{id, job, url, body, attempt, attempt of this round}, …}. Whoever claims counts as an attempt, also if it vanishes.
local time = redis.call('TIME')
local at = time[1] + time[2] / 1e6
local claimed = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'aigc:webhooks:due', '-inf', at, 'LIMIT', 0, ARGV[1])) do
  local key = 'aigc:webhook:' .. id
  local v = redis.call('HMGET', key, 'job', 'url', 'body', 'attempts', 'base')
  if not v[1] then
    redis.call('ZREM', 'aigc:webhooks:due', id) -- expired
  elseif tonumber(v[4]) - tonumber(v[5]) >= tonumber(ARGV[3]) then
    redis.call('ZREM', 'aigc:webhooks:due', id) -- its last attempt vanished
    redis.call('HSET', key, 'state', 'given_up')
  else
    local attempt = redis.call('HINCRBY', key, 'attempts', 1)
    redis.call('ZADD', 'aigc:webhooks:due', string.format('%.6f', at + tonumber(ARGV[2])), id)
    redis.call('HSET', key .. ':log', attempt, cjson.encode({at = string.format('%.3f', at), outcome = 'sending'}))
    redis.call('EXPIRE', key .. ':log', ARGV[4])
    claimed[#claimed + 1] = {id, v[1], v[2], v[3], attempt, attempt - tonumber(v[5])}
  end
end
return claimed
