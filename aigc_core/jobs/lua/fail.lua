-- KEYS: none
-- ARGV: id, chunk, token, error text, fingerprint, delay seconds, fatal (1 | 0), errors at most
-- Answer: {retried | discarded | aborted | lost, items given up, 1 a ticket would find more | 0}
local job, chunk, at = read(ARGV[1]), tonumber(ARGV[2]), now()
if not job then return {'lost', 0, 0} end
if held(job, chunk) ~= ARGV[3] then return remembered(job, chunk, ARGV[3]) or {'lost', 0, more(job.kind)} end
drop(job, chunk)
local errors, losses = tries_of(job, chunk)
errors = errors + 1
redis.call('HSET', job.key .. ':tries', chunk, errors .. ' ' .. losses)
redis.call('HSET', job.key, 'last_error', ARGV[4])
redis.call('HINCRBY', job.key, 'attempts_error', 1)
emit('chunk.failed', job.id, at, {chunk = chunk, attempt = errors + losses, error = ARGV[4], fingerprint = ARGV[5]})
local answer, items = 'retried', 0
local again = at + tonumber(ARGV[6])
if ARGV[7] == '1' or errors >= tonumber(ARGV[8]) then
  answer, items = 'discarded', items_of(job, chunk)
  discard(job, chunk, at, ARGV[5], ARGV[4])
  if ARGV[7] == '1' and chunk ~= -1 then
    answer = 'aborted'
    redis.call('HSET', job.key, 'stop', 'aborted', 'hard', 1, 'not_before', 0)
  end
elseif chunk == -1 then
  redis.call('HSET', job.key, 'not_before', again)
else
  redis.call('ZADD', job.key .. ':again', again, chunk)
end
settle(job.id, at)
return remember(job, chunk, ARGV[3], {answer, items, more(job.kind)})
