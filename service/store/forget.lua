-- Delete a user's session. The hashed event ids stay for a while as a tombstone, so that a repeat of
-- a click from before the deletion does not create the user again.
--
-- KEYS  1 the user's key, see session.lua; it may have any type
-- ARGV  1 lifetime of the tombstone in ms
-- Return 1.

local session = read(KEYS[1])
-- DEL comes first because it needs no memory: a full Redis deletes users, too
redis.call('DEL', KEYS[1])
if session and session.events ~= '' then
  local head = string.format(' 0 %d %s', #session.events / EVENT_BYTES, ARGV[1])
  redis.call('RPUSH', KEYS[1], head, '', session.events)
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return 1
