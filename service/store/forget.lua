-- Forget a user. The hashed event ids stay a little longer as a tombstone, so that a click repeated
-- from before the deletion does not bring the user back.
--
-- KEYS  1 the user's list, see session.lua; it may be of any type
-- ARGV  1 how long the tombstone stays, in ms

local user = read(KEYS[1])
redis.call('DEL', KEYS[1])  -- first, because it needs no memory: a full Redis lets go of users, too
if user and user.events ~= '' then
  local head = string.format(' 0 %d %s', #user.events / EVENT_BYTES, ARGV[1])
  redis.call('RPUSH', KEYS[1], head, '', user.events)
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return 1
