-- KEYS: none
-- ARGV: id, chunk, token, lease seconds
-- Answer: held, lost or cancelled. A finalising is never cancelled: it is what ends a cancelled job.
local job, chunk, at = read(ARGV[1]), tonumber(ARGV[2]), now()
if not job or held(job, chunk) ~= ARGV[3] then return 'lost' end
redis.call('ZADD', 'aigc:leases', string.format('%.6f', at + tonumber(ARGV[4])), job.id .. ' ' .. chunk)
if chunk ~= -1 and job.stop ~= '' and job.hard then return 'cancelled' end
return 'held'
