-- KEYS: aigc:job:<id>
-- ARGV: chunk, token, lease seconds
-- Answer: held, lost or cancelled. A finalising is never cancelled: it is what ends a cancelled job.
local key, chunk, at = KEYS[1], tonumber(ARGV[1]), now()
if held(key, chunk) ~= ARGV[2] then return 'lost' end
redis.call('ZADD', key .. ':expiry', at + tonumber(ARGV[3]), chunk)
if chunk ~= -1 and (redis.call('HGET', key, 'cancel') == '1' or redis.call('HGET', key, 'abort') == '1') then return 'cancelled' end
return 'held'
