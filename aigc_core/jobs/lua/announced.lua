-- KEYS: none
-- ARGV: id, finished_at of the end that has been announced
-- Answer: 1 noted | 0 it has ended again meanwhile
local ended = redis.call('ZSCORE', 'aigc:unannounced', ARGV[1])
if not ended or tonumber(ended) ~= tonumber(ARGV[2]) then return 0 end
return redis.call('ZREM', 'aigc:unannounced', ARGV[1])
