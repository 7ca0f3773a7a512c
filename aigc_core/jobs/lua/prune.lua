-- KEYS: none
-- ARGV: seconds that a final job is kept, jobs per pass
-- Answer: the ids of the jobs that are forgotten now
local ids = redis.call('ZRANGEBYSCORE', 'aigc:final', '-inf', now() - tonumber(ARGV[1]), 'LIMIT', 0, tonumber(ARGV[2]))
for _, id in ipairs(ids) do
  local key = J(id)
  redis.call('DEL', key, key .. ':leases', key .. ':again', key .. ':tries', key .. ':done', key .. ':dead', key .. ':recent')
  redis.call('ZREM', 'aigc:jobs', id)
  redis.call('ZREM', 'aigc:final', id)
  redis.call('SREM', 'aigc:dead', id)
end
return ids
