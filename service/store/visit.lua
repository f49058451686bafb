-- Visit one user atomically: add clicks, drop repeats, trim the history, renew the lifetime, and
-- return the session.
--
-- KEYS  1 the user's key, see session.lua
--       2 with feedback: the stream of the shard, see service/feedback/entries.py
-- ARGV  1 history length in clicks   2 idle time in ms   3 number of event ids to keep
--       with feedback: 4 bytes of the stream above which no click is stored (FEEDBACK)
--       then for every click: its entry, its hashed event id ('' for none), with feedback its data
-- Return nonce, count, number of accepted clicks, number of duplicates, number of the duplicates
-- that are from before a DELETE, the code with which Redis refused the writes (or ''), ms until the
-- session ends, state, then the click entries; or nil if the key holds no session.

local history, idle, kept = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local stream = KEYS[2]
local first_click, arguments = 4, 2
if stream then first_click, arguments = 5, 3 end
-- check the limits before any write: a failure after the first write would leave half of a visit
if not (history >= 1 and history <= 1e6 and idle >= 1 and idle <= 1e14 and kept >= 1 and kept <= 1e6)
then return redis.error_reply('ERR limits out of range') end
local session = read(KEYS[1])
if not session then return false end

-- Return the position of an event id among the known ones, from 1; nil if it is not known.
local function position_of(event, events)
  local at = string.find(events, event, 1, true)
  while at and at % EVENT_BYTES ~= 1 do at = string.find(events, event, at + 1, true) end
  return at and (at - 1) / EVENT_BYTES + 1
end

local accepted, duplicates, forgotten = {}, 0, 0

-- Log clicks with these numbers in the stream. Redis estimates its size in a microsecond.
local function log(nonce, count, data)
  if (redis.call('MEMORY', 'USAGE', stream) or 0) > tonumber(ARGV[4]) then
    error({ err = 'FEEDBACK the stream of the shard is full' })
  end
  local user = string.sub(KEYS[1], -16)
  for number, text in ipairs(data) do
    redis.call('XADD', stream, '*', 'k', 'c', 'u', user, 's', nonce,
      'n', string.format('%d', count + number), 'd', text)
  end
end

-- Add the clicks whose event id is not known yet, and store the session if there are any.
local function record()
  local events, data = session.events, {}
  for at = first_click, #ARGV, arguments do
    local event = ARGV[at + 1]
    local position = event ~= '' and position_of(event, events)
    if position then
      duplicates = duplicates + 1
      if position <= session.forgotten then forgotten = forgotten + 1 end
    else
      accepted[#accepted + 1] = ARGV[at]
      data[#data + 1] = stream and ARGV[at + 2]
      events = events .. event
    end
  end
  if #accepted == 0 then return end

  local surplus = math.max(#events / EVENT_BYTES - kept, 0)
  local tombstone = math.max(session.forgotten - surplus, 0)
  local lag = tombstone > 0 and session.tombstone - idle or 0
  local nonce = session.nonce
  if nonce == '' then
    local now = redis.call('TIME')
    local after_deletion = session.stored[1] and 1 or 0
    nonce = string.format('%010d%06d', now[1], now[2] - now[2] % 2 + after_deletion)
  end
  local count = session.count + #accepted
  events = string.sub(events, surplus * EVENT_BYTES + 1)
  local head = string.format('%s %d %d %d', nonce, count, tombstone, lag)
  local clicks = math.min(session.clicks + #accepted, history)
  -- The first write can be refused, and no other one: Redis with full memory refuses the first write
  -- of a script or none of them, the stream may be full, and its key may hold something else.
  if stream then log(nonce, session.count, data) end
  redis.call('RPUSH', KEYS[1], unpack(accepted))
  redis.call('LTRIM', KEYS[1], -clicks, -1)
  redis.call('LPUSH', KEYS[1], events, session.state, head)
  redis.call('PEXPIRE', KEYS[1], string.format('%d', idle + math.max(lag, 0)))
  session.nonce, session.count, session.left = nonce, count, idle
end

-- Redis refuses the first write of a script or none of them: memory is full, the server is a
-- replica, its disk failed, or replicas are missing. Nothing has changed then, and the stored
-- session can still be read.
local refused = ''
if #ARGV >= first_click then
  local done, failed = pcall(record)
  if not done then
    local message = type(failed) == 'table' and failed.err or failed
    for _, code in ipairs({ 'OOM', 'READONLY', 'MISCONF', 'NOREPLICAS', 'FEEDBACK' }) do
      if string.find(message, code .. ' ', 1, true) then refused = code end
    end
    if refused == '' then return redis.error_reply(message) end
    accepted, duplicates, forgotten = {}, 0, 0
  end
end

local reply = { session.nonce, session.count, #accepted, duplicates, forgotten, refused,
                session.left, session.state }
local first = math.max(session.clicks + #accepted - history, 0) + 1
for at = first, session.clicks do reply[#reply + 1] = session.stored[at + 3] end
for at = math.max(first - session.clicks, 1), #accepted do reply[#reply + 1] = accepted[at] end
return reply
