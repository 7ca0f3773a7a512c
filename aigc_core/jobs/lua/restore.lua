-- KEYS: none
-- ARGV: id, chunks already made as "first-last" runs separated by commas (empty: none), completed, bytes
-- Answer: 1 taken over | 0 no such job, or not a fresh one
-- After a submit of the same id: what S3 says was made counts as committed.
local job, at = read(ARGV[1]), now()
if not job or job.done > 0 or job.cursor > 0 then return 0 end
local done = 0
for first, last in string.gmatch(ARGV[2], '(%d+)-(%d+)') do
  for chunk = tonumber(first), tonumber(last) do redis.call('SETBIT', job.key .. ':done', chunk, 1) end
  done = done + tonumber(last) - tonumber(first) + 1
end
local cursor = redis.call('BITPOS', job.key .. ':done', 0)
if done >= job.chunk_count then cursor = job.chunk_count end
redis.call('HSET', job.key, 'done', done, 'completed', ARGV[3], 'bytes', ARGV[4], 'cursor', math.max(cursor, 0))
redis.call('HINCRBY', 'aigc:team:' .. job.team, 'queued', 0 - tonumber(ARGV[3]))
emit('job.recovered', job.id, at, {chunks = done, completed = tonumber(ARGV[3])})
settle(job.id, at)
return 1
