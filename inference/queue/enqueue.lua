-- Answer items of one version from the cache, join running generations, and queue the rest; all or
-- none.
-- KEYS queue, bell, ready, loadable, used, keep_alive, header
-- ARGV max_queue_size, lease_seconds, head_start_seconds, ttl_seconds, priority,
-- keep_alive_seconds ('' keeps the earlier wish), header of the run ('' without one), ledger day,
-- then (id, payload, deadline, cache plan: JSON, '' without one)…
-- Returns 0 the queue is full, -1 no host serves the version and none will be started; else
-- {tier ('' for a generation of its own), id of the stream to read, key, age in seconds, entries of
-- the stream on a hit} for each item.
-- Known items are not queued again: the reply to an earlier attempt was lost.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local version = string.sub(KEYS[1], #'brigade:queue:' + 1)
local score = string.format('%.6f', now - tonumber(ARGV[3]))
local ttl = ARGV[4]

local function hit(plan, tier, key)
  local text = key and redis.call('HGET', 'brigade:cached', key)
  if not text or redis.call('TYPE', 'brigade:cache:' .. key).ok ~= 'stream' then return nil end
  local is_json, about = pcall(cjson.decode, text)
  local age = is_json and now - (tonumber(about.made_at) or 0)
  if not age or age > plan.ttl then return nil end
  return {tier = tier, key = key, age = age}
end

local function cached(plan)
  if not plan or not plan.read then return nil end
  return hit(plan, 'exact', plan.key)
    or plan.retyped and hit(plan, 'retyped', redis.call('GET', 'brigade:retyped:' .. plan.retyped))
end

local function decide(id, plan)
  local source = redis.call('GET', 'brigade:source:' .. id)
  if source then
    source = string.match(source, '^%S+')
    return {known = true, tier = source == plan.item and '' or 'flight', source = source}
  end
  if redis.call('EXISTS', 'brigade:item:' .. id, 'brigade:stream:' .. id) > 0 then
    local found = cached(plan) or plan and plan.read and {tier = 'exact', key = plan.key} or {}
    return {known = true, tier = found.tier or '', key = found.key, age = found.age}
  end
  if not plan or not plan.read then return nil end
  local found = cached(plan)
  if found then return found end
  local leader = redis.call('GET', 'brigade:flight:' .. plan.key)
  if leader then
    local fields = redis.call('HMGET', 'brigade:item:' .. leader, 'priority', 'cancelled', 'deadline')
    -- One of lower priority would hold this request up; one that is late is about to end.
    local is_alive = fields[1] and not fields[2] and (tonumber(fields[3]) > now
      or redis.call('EXISTS', 'brigade:stream:' .. leader) == 1)
    if is_alive and fields[1] >= ARGV[5] then return {tier = 'flight', source = leader} end
  end
  return nil
end

local items, decisions, fresh = {}, {}, 0
for place = 9, #ARGV, 4 do
  local plan = ARGV[place + 3]
  plan = plan ~= '' and cjson.decode(plan)
  local item = {id = ARGV[place], payload = ARGV[place + 1],
    deadline = string.format('%.6f', now + tonumber(ARGV[place + 2])), plan = plan,
    text = ARGV[place + 3]}
  items[#items + 1] = item
  decisions[#items] = decide(item.id, plan) or false
  if not decisions[#items] then fresh = fresh + 1 end
end
if fresh > 0 then
  if redis.call('ZCOUNT', KEYS[3], now - tonumber(ARGV[2]), '+inf') == 0
    and redis.call('SISMEMBER', KEYS[4], version) == 0 then return -1 end
  if redis.call('ZCARD', KEYS[1]) + fresh > tonumber(ARGV[1]) then return 0 end
  redis.call('HSET', KEYS[5], version, string.format('%.3f', now))
  if ARGV[6] ~= '' then redis.call('HSET', KEYS[6], version, ARGV[6]) end
end
if ARGV[7] ~= '' then redis.call('SET', KEYS[7], ARGV[7], 'EX', ttl) end

local function read_from(item, source)
  -- A reader counts for ttl seconds, in case its web process dies.
  redis.call('ZADD', 'brigade:readers:' .. source, now + tonumber(ttl), item.id)
  redis.call('EXPIRE', 'brigade:readers:' .. source, ttl)
  redis.call('SET', 'brigade:source:' .. item.id, source .. ' ' .. ARGV[8], 'EX', ttl)
end

local function queue(item)
  local id = item.id
  local hash = {'payload', item.payload, 'score', score, 'enqueued', string.format('%.6f', now),
    'deadline', item.deadline, 'crashes', 0, 'priority', ARGV[5], 'day', ARGV[8]}
  if item.plan then
    id = item.plan.item
    hash[#hash + 1], hash[#hash + 2] = 'cache', item.text
    read_from(item, id)
    redis.call('SET', 'brigade:flight:' .. item.plan.key, id, 'EX', ttl)
  end
  redis.call('HSET', 'brigade:item:' .. id, unpack(hash))
  redis.call('EXPIRE', 'brigade:item:' .. id, ttl)
  redis.call('ZADD', KEYS[1], score, id)
  redis.call('LPUSH', KEYS[2], 1)
  return {'', id, '', '0'}
end

local function join(item, leader)
  -- The generation now waits for the most patient of its readers.
  redis.call('HSET', 'brigade:item:' .. leader, 'deadline', item.deadline)
  redis.call('EXPIRE', 'brigade:item:' .. leader, ttl)
  read_from(item, leader)
  return {'flight', leader, '', '0'}
end

local outcomes = {}
for number, item in ipairs(items) do
  local found = decisions[number]
  if not found then
    outcomes[number] = queue(item)
  elseif found.source then
    outcomes[number] = found.known and {found.tier, found.source, '', '0'}
      or join(item, found.source)
  elseif found.known and found.tier == '' then
    outcomes[number] = {'', item.id, '', '0'}
  else
    local stream = 'brigade:stream:' .. item.id
    if not found.known then
      redis.call('ZADD', 'brigade:cache_use', now, found.key)
      -- Only answers that are streamed can be followed again.
      if item.plan.copy_seconds then
        redis.call('COPY', 'brigade:cache:' .. found.key, stream)
        redis.call('EXPIRE', stream, item.plan.copy_seconds)
      else
        stream = 'brigade:cache:' .. found.key
      end
    end
    outcomes[number] = {found.tier, item.id, found.key, string.format('%.3f', found.age or 0),
      redis.call('XRANGE', stream, '-', '+')}
  end
end
if fresh > 0 then redis.call('LTRIM', KEYS[2], 0, 63) end
return outcomes
