-- One visit of one user, atomic: add clicks, drop repeats, trim, renew, return all that is known.
--
-- KEYS  1 clicks: a list; its first entry is the head (16 characters nonce, then the click count),
--                 the others are the last clicks, oldest first
--       2 state:  the cached hidden state, opaque here
--       3 events: a sorted set of the event ids seen, oldest lowest; below 0 from before a DELETE
-- ARGV  1 window: clicks kept   2 idle time in ms   3 event ids kept
--       then for every click: its entry, its event id ("" for none)
-- Gives nonce, count, accepted, duplicates, how many of these were forgotten by a DELETE, remaining
-- ms, state (or false), then the entries.

local window, idle, kept = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local head = redis.call('LINDEX', KEYS[1], 0)
local nonce, count = '', 0
if head then
  nonce, count = string.sub(head, 1, 16), tonumber(string.sub(head, 17))
  if not count then return redis.error_reply('what is stored is no session') end
end
local state = redis.pcall('GET', KEYS[2])
if type(state) == 'table' then state = false end  -- not a string: somebody else's, no state

local accepted, duplicates, forgotten, rank = {}, 0, 0, nil
for at = 4, #ARGV, 2 do
  local event, new = ARGV[at + 1], true
  if event ~= '' then
    if rank == nil then
      local newest = redis.call('ZRANGE', KEYS[3], -1, -1, 'WITHSCORES')
      rank = math.max(tonumber(newest[2] or '0'), 0)
    end
    rank = rank + 1
    new = redis.call('ZADD', KEYS[3], 'NX', rank, event) == 1
    if not new and tonumber(redis.call('ZSCORE', KEYS[3], event)) < 0 then
      forgotten = forgotten + 1
    end
  end
  if new then accepted[#accepted + 1] = ARGV[at] else duplicates = duplicates + 1 end
end

if #accepted > 0 then
  if head then
    redis.call('LPOP', KEYS[1])
  else
    local now = redis.call('TIME')
    nonce = string.format('%010d%06d', now[1], now[2])
  end
  for _, entry in ipairs(accepted) do redis.call('RPUSH', KEYS[1], entry) end
  redis.call('LTRIM', KEYS[1], -window, -1)
  count = count + #accepted
  redis.call('LPUSH', KEYS[1], nonce .. string.format('%d', count))
  redis.call('PEXPIRE', KEYS[1], idle)
  redis.call('PEXPIRE', KEYS[2], idle)
  if rank ~= nil then redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -(kept + 1)) end
  -- a tombstone may have longer to live than a session
  if redis.call('PTTL', KEYS[3]) < idle then redis.call('PEXPIRE', KEYS[3], idle) end
end

local known = { nonce, count, #accepted, duplicates, forgotten, redis.call('PTTL', KEYS[1]), state }
for _, entry in ipairs(redis.call('LRANGE', KEYS[1], 1, -1)) do known[#known + 1] = entry end
return known
