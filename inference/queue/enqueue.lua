-- Queue items of one version, all or none.
-- KEYS queue, bell, ready, loadable, used, keep_alive, header
-- ARGV max_queue_size, lease_seconds, head_start_seconds, ttl_seconds, priority,
-- keep_alive_seconds ('' keeps the earlier wish), header of the run ('' without one), ledger day,
-- then (id, payload, deadline)…
-- Returns 1 queued, 0 the queue is full, -1 no host serves the version and none will be started.
-- Known items are not queued again: the reply to an earlier attempt was lost.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local count = (#ARGV - 8) / 3
if redis.call('EXISTS', 'brigade:item:' .. ARGV[9], 'brigade:stream:' .. ARGV[9]) > 0 then return 1 end
local version = string.sub(KEYS[1], #'brigade:queue:' + 1)
if redis.call('ZCOUNT', KEYS[3], now - tonumber(ARGV[2]), '+inf') == 0
  and redis.call('SISMEMBER', KEYS[4], version) == 0 then return -1 end
if redis.call('ZCARD', KEYS[1]) + count > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[5], version, string.format('%.3f', now))
if ARGV[6] ~= '' then redis.call('HSET', KEYS[6], version, ARGV[6]) end
if ARGV[7] ~= '' then redis.call('SET', KEYS[7], ARGV[7], 'EX', ARGV[4]) end
local score = now - tonumber(ARGV[3])
for i = 1, count do
  local id, payload, patience = ARGV[3 * i + 6], ARGV[3 * i + 7], tonumber(ARGV[3 * i + 8])
  local item = 'brigade:item:' .. id
  redis.call('HSET', item, 'payload', payload, 'score', string.format('%.6f', score),
    'enqueued', string.format('%.6f', now), 'deadline', string.format('%.6f', now + patience),
    'crashes', 0, 'priority', ARGV[5], 'day', ARGV[8])
  redis.call('EXPIRE', item, ARGV[4])
  redis.call('ZADD', KEYS[1], string.format('%.6f', score), id)
  redis.call('LPUSH', KEYS[2], 1)
end
redis.call('LTRIM', KEYS[2], 0, 63)
return 1
