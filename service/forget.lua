-- Forget a user. The hashed event ids stay a little longer as a tombstone, so that a click repeated
-- from before the deletion does not bring the user back.
--
-- KEYS  1 clicks   2 state   3 events
-- ARGV  1 how long the tombstone stays, in ms

redis.call('DEL', KEYS[1], KEYS[2])
for place, event in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  redis.call('ZADD', KEYS[3], place - 1000000, event)  -- known, but no longer of any session
end
redis.call('PEXPIRE', KEYS[3], ARGV[1])
return 1
