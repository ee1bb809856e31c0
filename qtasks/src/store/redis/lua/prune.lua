-- ARGV from 2: before when finished jobs have ended, and dead ones; and how many. Gives how many were deleted.

local limit, deleted = tonumber(ARGV[4]), 0
for place, where in ipairs({ 'finished', 'dead' }) do
    local before = '(' .. ARGV[1 + place]
    local ids = call('ZRANGEBYSCORE', KEYS[1] .. where, '-inf', before, 'LIMIT', 0, limit - deleted)
    for _, id in ipairs(ids) do
        call('UNLINK', job_key .. id, KEYS[1] .. 's:' .. id, KEYS[1] .. 'm:' .. id, KEYS[1] .. 'n:' .. id, KEYS[1] .. 'h:' .. id)
    end
    call_all('ZREM', KEYS[1] .. where, ids)
    call_all('ZREM', KEYS[1] .. 'jobs', ids)
    deleted = deleted + #ids
end
return deleted
