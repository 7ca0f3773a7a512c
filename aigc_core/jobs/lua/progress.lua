-- KEYS: none
-- ARGV: id, chunk, token, facts as JSON
local job = read(ARGV[1])
if not job or held(job, tonumber(ARGV[2])) ~= ARGV[3] then return 0 end
redis.call('HSET', job.key, 'progress', ARGV[4], 'waiting_for', '')
redis.call('XADD', 'aigc:events', 'MAXLEN', '~', '10000', '*', 'type', 'training.progress', 'job', job.id, 'at',
  string.format('%.3f', now()), 'facts', ARGV[4])
return 1
