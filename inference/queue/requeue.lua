-- Give a dead host's generation back to its queue, at its old place.
-- KEYS queue, bell, item, claims
-- ARGV id, payload, crashes
-- Returns 1, or 0 when the item has gone meanwhile.
redis.call('HDEL', KEYS[4], ARGV[1])
local score = redis.call('HGET', KEYS[3], 'score')
if not score then return 0 end
redis.call('HSET', KEYS[3], 'payload', ARGV[2], 'crashes', ARGV[3])
redis.call('HDEL', KEYS[3], 'owner')
redis.call('ZADD', KEYS[1], score, ARGV[1])
redis.call('LPUSH', KEYS[2], 1)
redis.call('LTRIM', KEYS[2], 0, 63)
return 1
