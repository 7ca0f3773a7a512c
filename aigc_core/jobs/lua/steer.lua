-- KEYS: none
-- ARGV: what (team | limits | drain), subject, who, why, then: pairs of field and value, or for drain 1 | 0
-- Answer: 1
local what, subject, at = ARGV[1], ARGV[2], now()

local function text(key)
  local out = {}
  for i = 5, #ARGV, 2 do out[#out + 1] = ARGV[i] .. '=' .. (redis.call('HGET', key, ARGV[i]) or '') end
  return table.concat(out, ' ')
end

if what == 'drain' then
  local before = redis.call('SISMEMBER', 'aigc:draining', subject)
  redis.call(ARGV[5] == '1' and 'SADD' or 'SREM', 'aigc:draining', subject)
  if tostring(before) ~= ARGV[5] then audit('drain', subject, at, ARGV[3], ARGV[4], tostring(before), ARGV[5]) end
  return 1
end
local key = what == 'team' and 'aigc:team:' .. subject or 'aigc:limits'
local before = text(key)
for i = 5, #ARGV, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
if text(key) ~= before then audit(what, subject, at, ARGV[3], ARGV[4], before, text(key)) end
if what == 'team' then
  for _, kind in ipairs({'generation', 'training'}) do
    enlist_all(kind, subject)
  end
end
return 1
