-- Stop a generation wherever it is.
-- KEYS queue, item, stream
-- ARGV id, cancel message for its host, last frame for one that never started, ttl_seconds
-- Returns 2 if it was waiting and has ended, 1 if its host was told, 0 if it had ended before.
if redis.call('ZREM', KEYS[1], ARGV[1]) == 1 then
  local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
  local number = last and tonumber(string.match(last[1], '^%d+')) or 0
  local ended = redis.call('HGET', KEYS[2], 'ended') or ARGV[3]
  redis.call('XADD', KEYS[3], (number + 1) .. '-0', 'f', ended)
  redis.call('EXPIRE', KEYS[3], ARGV[4])
  redis.call('DEL', KEYS[2])
  return 2
end
local owner = redis.call('HGET', KEYS[2], 'owner')
if not owner then return 0 end
-- Should the host die before it obeys, the item is not given back to the queue.
redis.call('HSET', KEYS[2], 'cancelled', 1)
redis.call('RPUSH', 'brigade:control:' .. owner, ARGV[2])
redis.call('EXPIRE', 'brigade:control:' .. owner, 3600)
return 1
