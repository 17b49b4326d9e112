-- Give a generation back to its queue, at its old place; if it was cancelled meanwhile, end it.
-- KEYS queue, bell, item, claims, stream
-- ARGV id, payload, crashes, number and text of the last frame if it is cancelled, ttl_seconds,
-- the rest of a Failed frame from its usage on, with the tokens that the client has
-- Returns 1 queued, 0 the item has gone or has ended.
redis.call('HDEL', KEYS[4], ARGV[1])
local fields = redis.call('HMGET', KEYS[3], 'score', 'cancelled')
if not fields[1] then return 0 end
if fields[2] then
  redis.call('XADD', KEYS[5], ARGV[4] .. '-0', 'f', ARGV[5])
  redis.call('EXPIRE', KEYS[5], ARGV[6])
  redis.call('DEL', KEYS[3])
  return 0
end
local time = redis.call('TIME')
redis.call('HSET', KEYS[3], 'payload', ARGV[2], 'crashes', ARGV[3], 'ended', ARGV[5],
  'failed_rest', ARGV[7], 'waits_since', string.format('%d.%06d', time[1], time[2]))
redis.call('HDEL', KEYS[3], 'owner')
redis.call('ZADD', KEYS[1], fields[1], ARGV[1])
redis.call('LPUSH', KEYS[2], 1)
redis.call('LTRIM', KEYS[2], 0, 63)
return 1
