-- Keys: see enqueue.lua
-- ARGV: id, attempt, outcome (delivered, failed, given_up), HTTP status, text, seconds taken, pause until the next attempt
-- Answer: 1. An attempt that was overtaken by a newer one only writes its line, unless it was the one that delivered.
local key, attempt, outcome = 'aigc:webhook:' .. ARGV[1], ARGV[2], ARGV[3]
local state = redis.call('HGET', key, 'state')
if not state then return 1 end
local time = redis.call('TIME')
local at = time[1] + time[2] / 1e6
local line = cjson.decode(redis.call('HGET', key .. ':log', attempt) or '{}')
line.outcome, line.status, line.text, line.seconds = outcome, tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
redis.call('HSET', key .. ':log', attempt, cjson.encode(line))
if outcome == 'delivered' then
  redis.call('HSET', key, 'state', 'delivered')
  redis.call('ZREM', 'aigc:webhooks:due', ARGV[1])
elseif state == 'pending' and redis.call('HGET', key, 'attempts') == attempt then
  if outcome == 'given_up' then
    redis.call('HSET', key, 'state', 'given_up')
    redis.call('ZREM', 'aigc:webhooks:due', ARGV[1])
  else
    redis.call('ZADD', 'aigc:webhooks:due', string.format('%.6f', at + tonumber(ARGV[7])), ARGV[1])
  end
end
return 1
