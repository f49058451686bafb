-- What is stored of one user, under one key: so expiry, eviction and deletion take all of it at once.
-- This text stands before visit.lua and forget.lua.
--
-- The key holds a list: head, state, events, then the last clicks, oldest first.
--   head    'nonce count forgotten lag', with one space between them
--             nonce      16 digits that name the session; empty where only a tombstone is left
--             count      clicks accepted in this session; it never falls
--             forgotten  event ids in front of `events` that are from before a DELETE: the tombstone
--             lag        ms from the end of the session to the end of the tombstone; may be negative
--   state   the cached hidden state, opaque here; may be empty
--   events  the hashed event ids seen, 8 bytes each, oldest first
-- The key lives as long as the longer-lived of session and tombstone.

local EVENT_BYTES = 8

-- Read the list without what has expired; return nil where the key holds something else.
local function read(key)
  local stored = redis.pcall('LRANGE', key, 0, -1)
  if stored.err then return nil end
  local found = { nonce = '', count = 0, forgotten = 0, tombstone = 0, left = -1,
                  state = '', events = '', stored = stored, clicks = 0 }
  if not stored[1] then return found end
  local nonce, count, forgotten, lag = string.match(stored[1], '^(%d*) (%d+) (%d+) (%-?%d+)$')
  if not nonce or (#nonce ~= 0 and #nonce ~= 16) or #count > 15 or #forgotten > 9 or #lag > 16
    or #stored < 3 or #stored[3] % EVENT_BYTES ~= 0
    or tonumber(forgotten) * EVENT_BYTES > #stored[3] then return nil end
  lag = tonumber(lag)
  local left = redis.call('PTTL', key)
  local session = left - math.max(lag, 0)
  found.forgotten, found.tombstone = tonumber(forgotten), left + math.min(lag, 0)
  found.events = stored[3]
  if found.tombstone <= 0 then
    found.events, found.forgotten = string.sub(found.events, found.forgotten * EVENT_BYTES + 1), 0
  end
  if nonce ~= '' and session > 0 then
    found.nonce, found.count, found.left, found.state = nonce, tonumber(count), session, stored[2]
    found.clicks = #stored - 3
  else
    found.events = string.sub(found.events, 1, found.forgotten * EVENT_BYTES)
  end
  return found
end
