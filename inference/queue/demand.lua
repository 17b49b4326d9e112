-- The demand for versions, and the load of hosts, at one moment.
-- KEYS used, keep_alive
-- ARGV number of versions, version key…, launch id…
-- Returns {versions, hosts}: {queued, priority, oldest wait, urgency, idle, keep_alive} for each
-- version, seconds as text and -1 where unknown; {claimed, private_bytes, is_serving,
-- resident_bytes, device, notice, has_served} for each host, '' where it has not said.
-- A version whose host is at work was used just now; so was a version with a host but without a
-- record of its use, since this Redis may have lost it. Only the first items of a long queue are read.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local count = tonumber(ARGV[1])
local hosts, versions = {}, {}
for i = count + 2, #ARGV do
  local host = 'brigade:host:' .. ARGV[i]
  local claimed = redis.call('HLEN', 'brigade:claims:' .. ARGV[i])
  local fields = redis.call('HMGET', host, 'version_key', 'private_bytes', 'private_before',
    'resident_bytes', 'device', 'notice', 'served')
  if fields[1] and (claimed > 0 or redis.call('HEXISTS', KEYS[1], fields[1]) == 0) then
    redis.call('HSET', KEYS[1], fields[1], string.format('%.3f', now))
  end
  local held = fields[2] and fields[2] - (fields[3] or 0) or -1
  local serving = fields[1] and redis.call('ZSCORE', 'brigade:ready:' .. fields[1], ARGV[i])
  hosts[#hosts + 1] = {claimed, string.format('%d', held), serving and 1 or 0,
    fields[4] or '', fields[5] or '', fields[6] or '', fields[7] or ''}
end
for i = 2, count + 1 do
  local queue = 'brigade:queue:' .. ARGV[i]
  local queued, priority, oldest, urgency = redis.call('ZCARD', queue), 0, 0, 0
  if queued > 0 then
    local first = redis.call('ZRANGE', queue, 0, 63, 'WITHSCORES')
    urgency = now - tonumber(first[2])
    for j = 1, #first, 2 do
      local fields = redis.call('HMGET', 'brigade:item:' .. first[j], 'enqueued', 'priority')
      oldest = math.max(oldest, now - tonumber(fields[1] or now))
      priority = math.max(priority, tonumber(fields[2] or 0))
    end
  end
  local used = redis.call('HGET', KEYS[1], ARGV[i])
  versions[#versions + 1] = {
    queued, priority, string.format('%.3f', oldest), string.format('%.3f', urgency),
    used and string.format('%.3f', now - tonumber(used)) or '-1',
    redis.call('HGET', KEYS[2], ARGV[i]) or ''
  }
end
return {versions, hosts}
