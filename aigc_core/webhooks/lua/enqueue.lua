-- aigc:webhook:<id>       hash  job url body state (pending, delivered, given_up) attempts base created_at
-- aigc:webhook:<id>:log   hash  attempt → JSON; one entry per attempt, written when it begins and again when it ends
-- aigc:webhooks:due       zset  id → time of the next attempt; of one in work, the time at which it counts as vanished
-- aigc:webhooks:of:<job>  set   ids
-- ARGV: id, job, url, body, seconds that all of it is kept
-- Answer: 1 new | 0 known
local key = 'aigc:webhook:' .. ARGV[1]
if redis.call('EXISTS', key) == 1 then return 0 end
local time = redis.call('TIME')
local at = time[1] + time[2] / 1e6
redis.call('HSET', key, 'job', ARGV[2], 'url', ARGV[3], 'body', ARGV[4], 'state', 'pending', 'attempts', 0, 'base', 0,
  'created_at', string.format('%.3f', at))
redis.call('ZADD', 'aigc:webhooks:due', string.format('%.6f', at), ARGV[1])
redis.call('SADD', 'aigc:webhooks:of:' .. ARGV[2], ARGV[1])
redis.call('EXPIRE', key, ARGV[5])
redis.call('EXPIRE', 'aigc:webhooks:of:' .. ARGV[2], ARGV[5])
return 1
