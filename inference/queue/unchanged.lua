-- The same answer as long as nothing happens to hosts, nodes and requests. Until then the
-- controller's announcement stays valid.
-- KEYS hosts, dead, used, loadable
-- ARGV lease_seconds, announced_seconds, names of nodes, of versions, of launches, each on a line
-- Returns {launches within their lease, what nodes show, times of last use}, or false while anything
-- waits, is at work or is being given back.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
if redis.call('SCARD', KEYS[2]) > 0 then return false end
for version in string.gmatch(ARGV[4], '[^\n]+') do
  if redis.call('ZCARD', 'brigade:queue:' .. version) > 0 then return false end
end
for launch in string.gmatch(ARGV[5], '[^\n]+') do
  if redis.call('HLEN', 'brigade:claims:' .. launch) > 0 then return false end
end
local shown = {}
for node in string.gmatch(ARGV[3], '[^\n]+') do
  shown[#shown + 1] = redis.call('GET', 'brigade:node:' .. node)
end
local alive = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. (now - tonumber(ARGV[1])), '+inf')
table.sort(alive)
redis.call('EXPIRE', KEYS[4], ARGV[2])
return {alive, shown, redis.call('HVALS', KEYS[3])}
