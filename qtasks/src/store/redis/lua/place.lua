-- ARGV from 2: the job; and its new queue behind a `=`, its new rank, and when it will be due, each or nothing.
-- Gives whether it was moved: it waits, and never started.

local id, queue, rank, due = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local job, standing = unpack(call('MGET', JOB .. id, STANDING .. id))
local NEVER_STARTED = '\0\0\0\0'
-- How a job stands that waits for the first time, but for when it is due.
local NEW = string.rep('\0', 34) .. struct.pack('>BI4', 255, 0)
if not job or standing and (standing:byte() ~= WAITING or standing:sub(3, 6) ~= NEVER_STARTED) then
    return 0
end
begin_though_full()

local old_rank, old_due, times, of_more, length = struct.unpack('>hi8c16c2I2', job)
local lane = job:sub(31, 30 + length)
rank, due = tonumber(rank) or old_rank, tonumber(due) or standing and due_or_ended(standing) or old_due

-- The lane of the same task in the new queue.
local function new_lane()
    if queue == '' then
        return lane
    end
    local size = lane:match('^%d+')
    local name = queue:sub(2)
    return #name .. ':' .. name .. lane:sub(#size + tonumber(size) + 2)
end

-- Further behind in line it is passed over when its turn comes: how it stands says that it is not there.
if not standing and call('LINDEX', key('line:', lane), 0) == id then
    call('LPOP', key('line:', lane))
end
for _, where in ipairs({ 'ready:', 'suspects:', 'later:' }) do
    call('ZREM', key(where, lane), id)
end

local to = new_lane()
call('SET', JOB .. id, struct.pack('>hi8', rank, due) .. times .. of_more .. struct.pack('>I2', #to) .. to .. job:sub(31 + length))
standing = standing or NEW
call('SET', STANDING .. id, standing:sub(1, 26) .. struct.pack('>i8', due) .. standing:sub(35))
-- The next lease lets it in among the others, if it is due then.
wait('later:', to, { due, id })
local expires = expiry(job)
if expires then
    call('ZADD', key('expiring'), due + expires, id)
end
tally(WAITING, lane, -1)
tally(WAITING, to, 1)
write_tallies()
notify({ id }, {}, true)
return 1
