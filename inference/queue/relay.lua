-- Append frames to the stream of a run of several models, and renew the lease of its conductor.
-- KEYS item, stream, needed
-- ARGV conductor, lease_seconds, ttl_seconds, '1' with the last frame, id of the run's item, phases
-- until the next call of each version (JSON), then (number, frame)…
-- Returns 1, 2 if the run is to be stopped, or 0 if another process conducts it now. A number that
-- the stream already has is passed over: the reply to an earlier attempt was lost.
local fields = redis.call('HMGET', KEYS[1], 'owner', 'cancelled')
if fields[1] ~= ARGV[1] then return 0 end
for i = 7, #ARGV, 2 do
  local added = redis.pcall('XADD', KEYS[2], ARGV[i] .. '-0', 'f', ARGV[i + 1])
  if type(added) == 'table' and added.err and not string.find(added.err, 'equal or smaller', 1, true)
  then return added end
end
redis.call('EXPIRE', KEYS[2], ARGV[3])
if ARGV[4] == '1' then
  redis.call('DEL', KEYS[1], 'brigade:control:' .. ARGV[1])
  redis.call('HDEL', KEYS[3], ARGV[5])
  return 1
end
local time = redis.call('TIME')
local lease = string.format('%.3f', tonumber(time[1]) + tonumber(time[2]) / 1e6 + ARGV[2])
redis.call('HSET', KEYS[1], 'lease', lease)
redis.call('HSET', KEYS[3], ARGV[5], lease .. ' ' .. ARGV[6])
return fields[2] and 2 or 1
