-- Layout of a user's session, and how to read it. This text is put before visit.lua and forget.lua.
--
-- All data of a user stands under one key, so it expires, is evicted and is deleted together.
-- The key holds a list: head, state, events, then the last clicks, oldest first.
--   head    'nonce count forgotten lag', with one space between them
--             nonce      16 digits that identify the session, odd where it began after a DELETE
--                        that left a tombstone; empty if only a tombstone is left
--             count      number of clicks accepted in this session; it never falls
--             forgotten  number of event ids at the start of `events` that are from before a DELETE:
--                        the tombstone
--             lag        ms from the end of the session to the end of the tombstone; may be negative
--   state   the cached hidden state, not interpreted here; may be empty
--   events  the hashed event ids, 8 bytes each, oldest first
-- The key lives as long as the session or the tombstone, whichever ends later.

local EVENT_BYTES = 8

-- Return the session without the parts that have expired; nil if the key holds something else.
local function read(key)
  local stored = redis.pcall('LRANGE', key, 0, -1)
  if stored.err then return nil end
  local session = { nonce = '', count = 0, forgotten = 0, tombstone = 0, left = -1,
                    state = '', events = '', stored = stored, clicks = 0 }
  if not stored[1] then return session end
  local nonce, count, forgotten, lag = string.match(stored[1], '^(%d*) (%d+) (%d+) (%-?%d+)$')
  if not nonce or (#nonce ~= 0 and #nonce ~= 16) or #count > 15 or #forgotten > 9 or #lag > 16
    or #stored < 3 or #stored[3] % EVENT_BYTES ~= 0
    or tonumber(forgotten) * EVENT_BYTES > #stored[3] then return nil end
  lag = tonumber(lag)
  local key_left = redis.call('PTTL', key)
  local session_left = key_left - math.max(lag, 0)
  session.forgotten, session.tombstone = tonumber(forgotten), key_left + math.min(lag, 0)
  session.events = stored[3]
  if session.tombstone <= 0 then
    session.events = string.sub(session.events, session.forgotten * EVENT_BYTES + 1)
    session.forgotten = 0
  end
  if nonce ~= '' and session_left > 0 then
    session.nonce, session.count, session.left = nonce, tonumber(count), session_left
    session.state, session.clicks = stored[2], #stored - 3
  else
    session.events = string.sub(session.events, 1, session.forgotten * EVENT_BYTES)
  end
  return session
end
