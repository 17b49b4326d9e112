-- Note that a request is accepted, and when: the one time of its accounting.
-- KEYS open
-- ARGV run_id, process, lease_seconds, facts
-- Returns the moment in Unix microseconds, as text.
local time = redis.call('TIME')
local moment = time[1] .. string.format('%06d', tonumber(time[2]))
local day = 'brigade:ledger:' .. math.floor(tonumber(time[1]) / 86400)
local known = redis.call('HGET', KEYS[1], ARGV[1])
-- The reply to an earlier attempt was lost.
if known then return string.match(known, '^%d+') end
redis.call('HSET', KEYS[1], ARGV[1], moment .. ' ' .. ARGV[2] .. ' ' .. ARGV[4])
if redis.call('HINCRBY', day, 'accepted', 1) == 1 then
  redis.call('HSETNX', day, 'since', moment)
  redis.call('EXPIRE', day, 3456000)
end
redis.call('SET', 'brigade:process:' .. ARGV[2], 1, 'EX', ARGV[3])
return moment
