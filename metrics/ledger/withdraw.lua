-- Take back the acceptance of a request that was refused after all.
-- KEYS open
-- ARGV run_id
-- Returns 1, or 0 when it was not open.
local entry = redis.call('HGET', KEYS[1], ARGV[1])
if not entry then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
local seconds = tonumber(string.sub(string.match(entry, '^%d+'), 1, -7))
redis.call('HINCRBY', 'brigade:ledger:' .. math.floor(seconds / 86400), 'accepted', -1)
return 1
