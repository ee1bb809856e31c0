-- ARGV from 2, for each record: the worker and the lease, the progress or nothing, and one more byte there if the job is a
-- suspect that has had its turn, how many steps, memos, and values about jobs; then of each step the number and the step; of
-- each memo the number, which memos, by what they stand, and the memo; and the jobs, as `enqueue` takes them.
-- Gives for each record whether it was written, or -1 where one leaves a gap.

local NONE = struct.pack('>I4I8I8I8B', 0, 0, 0, 0, 0) .. string.rep('\0', 16)

local records, ids, by_worker = {}, {}, {}
local at = 2
while at <= #ARGV do
    local worker, lease = ARGV[at], ARGV[at + 1]
    local extra, record = ARGV[at + 2], { id = lease:sub(1, ID), lease = lease, memos = {} }
    record.progress, record.passed = #extra >= 16 and extra:sub(1, 16) or '', #extra % 16 == 1
    record.steps = at + 6
    record.behind_steps = record.steps + 2 * tonumber(ARGV[at + 3])
    record.jobs = record.behind_steps + 4 * tonumber(ARGV[at + 4])
    record.last = record.jobs + tonumber(ARGV[at + 5]) - 1
    records[#records + 1], ids[#ids + 1] = record, record.id
    local of_worker = by_worker[worker] or { leases = {}, records = {} }
    of_worker.leases[#of_worker.leases + 1], of_worker.records[#of_worker.records + 1] = lease, record
    by_worker[worker] = of_worker
    at = record.last + 1
end
for worker, of_worker in pairs(by_worker) do
    for index, holds in ipairs(are_in(key('held:', worker), of_worker.leases)) do
        of_worker.records[index].holds = holds == 1
    end
end

-- The counts of the jobs before and behind the records.
local heads = {}
for index, bytes in ipairs(get_all(keys_of(COUNTS, ids))) do
    local head = { bytes = bytes or NONE, appended = {} }
    head.attempt, head.steps, head.skipped, head.memos = struct.unpack('>c4I8I8I8', head.bytes)
    heads[ids[index]] = head
end

-- Says what becomes of each record, before anything is written: then one with a gap leaves no half behind.
for _, record in ipairs(records) do
    local head = heads[record.id]
    if record.holds then
        for index = record.steps, record.behind_steps - 1, 2 do
            local seq = tonumber(ARGV[index])
            if seq > head.steps then
                return -1
            elseif seq == head.steps then
                local step = ARGV[index + 1]
                head.steps, head.attempt = head.steps + 1, record.lease:sub(ID + 1)
                head.skipped = head.skipped + struct.unpack('B', step)
                head.appended[#head.appended + 1] = step
            end
        end
        for index = record.behind_steps, record.jobs - 1, 4 do
            local number = tonumber(ARGV[index])
            if number > head.memos then
                return -1
            elseif number == head.memos then
                head.memos = head.memos + 1
                record.memos[#record.memos + 1] = index
            end
        end
    end
end

local answer, changed, counts, work = {}, {}, {}, false
for index, record in ipairs(records) do
    answer[index] = record.holds and 1 or 0
    if record.holds then
        local head = heads[record.id]
        for _, memo in ipairs(record.memos) do
            insist('ZADD', key(ARGV[memo + 1], record.id), ARGV[memo + 2], ARGV[memo + 3])
        end
        head.progress = record.progress ~= '' and '\1' .. record.progress or head.progress
        if record.passed and call('GETRANGE', STANDING .. record.id, 1, 1) == '\3' then
            insist('SETRANGE', STANDING .. record.id, 1, '\1')
        end
        if record.last >= record.jobs then
            -- The jobs that a body enqueues are part of its work.
            begin_though_full()
            enqueue(record.jobs, record.last)
            work = true
        end
        head.is_held = true
    end
end
-- Why the steps of one of them cannot be appended. The others are written, for they are to be found so when they are again.
local failure
for id, head in pairs(heads) do
    local is_written = head.is_held
    if is_written then
        local why
        is_written, why = pcall(call_all, 'RPUSH', key('s:', id), head.appended, insist)
        failure = failure or not is_written and why
    end
    if is_written then
        local first = struct.pack('>c4I8I8I8', head.attempt, head.steps, head.skipped, head.memos)
        counts[#counts + 1], counts[#counts + 2] = COUNTS .. id, first .. (head.progress or head.bytes:sub(29))
        changed[#changed + 1] = id
    end
end
set_all(counts)
write_tallies()
notify(changed, {}, work)
if failure then
    return type(failure) == 'table' and failure or redis.error_reply(failure)
end
return answer
