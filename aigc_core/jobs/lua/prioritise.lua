-- KEYS: none
-- ARGV: id, priority, seconds that one step of it is worth, who, why
-- Answer: nil no such job | 1 changed | 0 final
local job, at = read(ARGV[1]), now()
if not job then return nil end
if FINAL[job.state] then return 0 end
local before = redis.call('HGET', job.key, 'priority')
local v = redis.call('HMGET', job.key, 'since', 'latest_rank')
local rank = tonumber(v[1]) + tonumber(ARGV[2]) * tonumber(ARGV[3])
if v[2] ~= '' then rank = math.min(rank, tonumber(v[2])) end
redis.call('HSET', job.key, 'priority', ARGV[2], 'rank', string.format('%.6f', rank))
if before ~= ARGV[2] then
  audit('prioritise', job.id, at, ARGV[4], ARGV[5], before, ARGV[2])
  emit('job.prioritised', job.id, at, {priority = tonumber(ARGV[2])})
end
settle(job.id, at)
return 1
