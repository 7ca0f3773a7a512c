-- Keys: see enqueue.lua
-- ARGV: id
-- Answer: 1 is sent again, under the same id, with a whole round of attempts | 0 unknown
local key = 'aigc:webhook:' .. ARGV[1]
local attempts = redis.call('HGET', key, 'attempts')
if not attempts then return 0 end
redis.call('HSET', key, 'state', 'pending', 'base', attempts)
redis.call('ZADD', 'aigc:webhooks:due', redis.call('TIME')[1], ARGV[1])
return 1
