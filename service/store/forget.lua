-- Delete a user's session. The hashed event ids stay for a while as a tombstone, so that a repeat of
-- a click from before the deletion does not create the user again.
--
-- With feedback, a deletion is logged, also of a user who has no session: older entries may exist.
-- The tombstone is then left in any case. It keeps impressions of before the deletion out of the
-- stream, see service/feedback/impressions.lua. Without feedback, a deletion is logged if there is a
-- stream: feedback was on before, and the events folder may hold clicks of the user.
--
-- KEYS  1 the user's key, see session.lua; it may have any type
--       2 the stream of the shard
-- ARGV  1 lifetime of the tombstone in ms   2 with feedback: 1, else 0
-- Return 1.

local session = read(KEYS[1])
-- DEL comes first because it needs no memory: a full Redis deletes users, too
redis.call('DEL', KEYS[1])
local events = session and session.events or ''
if events ~= '' or ARGV[2] == '1' then
  local head = string.format(' 0 %d %s', #events / EVENT_BYTES, ARGV[1])
  redis.call('RPUSH', KEYS[1], head, '', events)
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
local user = string.sub(KEYS[1], -16)
if ARGV[2] == '1' then
  redis.call('XADD', KEYS[2], '*', 'k', 'd', 'u', user)
else
  -- a Redis user for a service without feedback may not be allowed to
  redis.pcall('XADD', KEYS[2], 'NOMKSTREAM', '*', 'k', 'd', 'u', user)
end
return 1
