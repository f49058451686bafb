-- Visit one user, atomically: add clicks, drop repeats, trim, renew, return all that is stored.
--
-- KEYS  1 the user's list, see session.lua
-- ARGV  1 clicks kept   2 idle time in ms   3 event ids kept
--       then for every click: its entry, its event id ('' for none)
-- Return nonce, count, accepted, duplicates, how many of these were forgotten by a DELETE, the code
-- with which Redis refuses writes now (or ''), remaining ms, state, then the entries; or nil where
-- the key holds no session.

local history, idle, kept = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
-- before anything is written: what fails later would leave half of a visit behind
if not (history >= 1 and history <= 1e6 and idle >= 1 and idle <= 1e14 and kept >= 1 and kept <= 1e6)
then return redis.error_reply('ERR limits that no visit has') end
local user = read(KEYS[1])
if not user then return false end

-- Return the place of an event id among those seen, from 1, or nil.
local function place_of(event, events)
  local at = string.find(events, event, 1, true)
  while at and at % EVENT_BYTES ~= 1 do at = string.find(events, event, at + 1, true) end
  return at and (at - 1) / EVENT_BYTES + 1
end

local accepted, duplicates, forgotten = {}, 0, 0

local function record()
  local events = user.events
  for at = 4, #ARGV, 2 do
    local event = ARGV[at + 1]
    local place = event ~= '' and place_of(event, events)
    if place then
      duplicates = duplicates + 1
      if place <= user.forgotten then forgotten = forgotten + 1 end
    else
      accepted[#accepted + 1] = ARGV[at]
      events = events .. event
    end
  end
  if #accepted == 0 then return end

  local surplus = math.max(#events / EVENT_BYTES - kept, 0)
  local tombstone = math.max(user.forgotten - surplus, 0)
  local lag = tombstone > 0 and user.tombstone - idle or 0
  local nonce = user.nonce
  if nonce == '' then
    local now = redis.call('TIME')
    nonce = string.format('%010d%06d', now[1], now[2])
  end
  local count = user.count + #accepted
  events = string.sub(events, surplus * EVENT_BYTES + 1)
  local head = string.format('%s %d %d %d', nonce, count, tombstone, lag)
  local clicks = math.min(user.clicks + #accepted, history)
  -- RPUSH comes first: where memory is full Redis refuses the first write of a script, or none
  redis.call('RPUSH', KEYS[1], unpack(accepted))
  redis.call('LTRIM', KEYS[1], -clicks, -1)
  redis.call('LPUSH', KEYS[1], events, user.state, head)
  redis.call('PEXPIRE', KEYS[1], string.format('%d', idle + math.max(lag, 0)))
  user.nonce, user.count, user.left = nonce, count, idle
end

-- Redis refuses the first write of a script or none: full memory, a replica, a disk that failed,
-- replicas that are missing. Nothing has changed then, and what is stored can still be read.
local refused = ''
if #ARGV > 3 then
  local done, failed = pcall(record)
  if not done then
    local said = type(failed) == 'table' and failed.err or failed
    for _, code in ipairs({ 'OOM', 'READONLY', 'MISCONF', 'NOREPLICAS' }) do
      if string.find(said, code .. ' ', 1, true) then refused = code end
    end
    if refused == '' then return redis.error_reply(said) end
    accepted, duplicates, forgotten = {}, 0, 0
  end
end

local answer = { user.nonce, user.count, #accepted, duplicates, forgotten, refused, user.left,
                 user.state }
local first = math.max(user.clicks + #accepted - history, 0) + 1
for at = first, user.clicks do answer[#answer + 1] = user.stored[at + 3] end
for at = math.max(first - user.clicks, 1), #accepted do answer[#answer + 1] = accepted[at] end
return answer
