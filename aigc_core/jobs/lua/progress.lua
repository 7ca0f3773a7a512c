-- KEYS: aigc:job:<id>
-- ARGV: id, chunk, token, facts as JSON
local key = KEYS[1]
if held(key, tonumber(ARGV[2])) ~= ARGV[3] then return 0 end
redis.call('HSET', key, 'progress', ARGV[4], 'waiting_for', '')
emit('training.progress', ARGV[1], now(), ARGV[4])
return 1
