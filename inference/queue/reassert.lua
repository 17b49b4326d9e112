-- Write a host's claims anew after Redis may have lost them.
-- KEYS claims, fenced
-- ARGV id, mark…
-- Returns 1, or 0 when fenced: others hold the claims then.
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
