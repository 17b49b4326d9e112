-- Stop a generation wherever it is; or leave one that others read.
-- KEYS queue
-- ARGV id, last frame of an item that never started or of a reader that leaves, ttl_seconds
-- Returns 3 if others still read it: then the last frame is in the stream of the id; 2 if it was
-- waiting and has ended, 1 if its host was told, 0 if it had ended before.
local id = ARGV[1]
local source = redis.call('GET', 'brigade:source:' .. id)
if source then
  source = string.match(source, '^%S+')
  local readers = 'brigade:readers:' .. source
  local own = redis.call('ZSCORE', readers, id)
  if not own or redis.call('EXISTS', 'brigade:item:' .. source) == 0 then return 0 end
  local time = redis.call('TIME')
  local others = redis.call('ZCOUNT', readers, time[1], '+inf')
  if tonumber(own) >= tonumber(time[1]) then others = others - 1 end
  if others > 0 then
    redis.call('ZREM', readers, id)
    redis.call('XADD', 'brigade:stream:' .. id, '1-0', 'f', ARGV[2])
    redis.call('EXPIRE', 'brigade:stream:' .. id, ARGV[3])
    return 3
  end
  -- The last reader stays: the computed tokens belong to its record.
  id = source
end
local item, stream = 'brigade:item:' .. id, 'brigade:stream:' .. id
if redis.call('ZREM', KEYS[1], id) == 1 then
  local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  local number = last and tonumber(string.match(last[1], '^%d+')) or 0
  local ended = redis.call('HGET', item, 'ended') or ARGV[2]
  redis.call('XADD', stream, (number + 1) .. '-0', 'f', ended)
  redis.call('EXPIRE', stream, ARGV[3])
  redis.call('DEL', item)
  return 2
end
local owner = redis.call('HGET', item, 'owner')
if not owner then return 0 end
-- Should the host die before it obeys, the item is not given back to the queue. Nobody joins it.
redis.call('HSET', item, 'cancelled', 1)
redis.call('RPUSH', 'brigade:control:' .. owner, cmsgpack.pack({'Cancel', id}))
redis.call('EXPIRE', 'brigade:control:' .. owner, 3600)
return 1
