-- KEYS: aigc:job:<id>
-- ARGV: id
-- Answer: -1 no such job, else tickets to publish
local key, id, at = KEYS[1], ARGV[1], now()
if redis.call('EXISTS', key) == 0 then return -1 end
if redis.call('SISMEMBER', 'aigc:live', id) == 0 then return 0 end
if redis.call('HSET', key, 'cancel', 1) == 1 then emit('job.cancel_requested', id, at, '{}') end
-- A cancelled job rests for nobody: what is left is to finalise it.
redis.call('HSET', key, 'not_before', 0)
return next_ticket(key, at)
