-- ARGV from 2, for each record: the job, attempt and worker of the lease, the progress or nothing, how many steps, memos, and
-- values about jobs; then of each step the number and the step; of each memo the number, which memos, by what they stand,
-- and the memo; and the jobs, as `enqueue` takes them.
-- Gives for each record whether it was written, or -1 where one leaves a gap.

local records, heads = {}, {}

-- The counts of a job before and behind the records.
local function head_of(id)
    local head = heads[id]
    if not head then
        head = { bytes = call('GETRANGE', job_key .. id, 0, 65), appended = {} }
        if #head.bytes > 0 then
            head.failures, head.steps, head.skipped, head.memos = struct.unpack('>I4I8I8I8', head.bytes, 23)
        end
        heads[id] = head
    end
    return head
end

-- Says what becomes of each record, before anything is written: then one with a gap leaves no half behind.
local at = 2
while at <= #ARGV do
    local record = { id = ARGV[at], progress = ARGV[at + 2], memos = {} }
    local steps, memos = at + 6, at + 6 + 2 * tonumber(ARGV[at + 3])
    local jobs = memos + 4 * tonumber(ARGV[at + 4])
    local last = jobs + tonumber(ARGV[at + 5]) - 1
    local head = head_of(record.id)
    record.holds = head.bytes:sub(1, 1) == struct.pack('B', RUNNING) and head.bytes:sub(3, 22) == ARGV[at + 1]
    if record.holds then
        record.jobs, record.last = jobs, last
        for place = steps, memos - 1, 2 do
            local seq = tonumber(ARGV[place])
            if seq > head.steps then
                return -1
            elseif seq == head.steps then
                local step = ARGV[place + 1]
                head.steps, head.failures = head.steps + 1, 0
                head.skipped = head.skipped + struct.unpack('B', step)
                head.appended[#head.appended + 1] = step
            end
        end
        for place = memos, jobs - 1, 4 do
            local number = tonumber(ARGV[place])
            if number > head.memos then
                return -1
            elseif number == head.memos then
                head.memos = head.memos + 1
                record.memos[#record.memos + 1] = place
            end
        end
    end
    records[#records + 1] = record
    at = last + 1
end

local answer, news, work = {}, {}, false
for place, record in ipairs(records) do
    answer[place] = record.holds and 1 or 0
    if record.holds then
        local head = heads[record.id]
        for _, memo in ipairs(record.memos) do
            call('ZADD', KEYS[1] .. ARGV[memo + 1] .. ':' .. record.id, ARGV[memo + 2], ARGV[memo + 3])
        end
        head.progress = record.progress ~= '' and record.progress or head.progress
        if record.last >= record.jobs then
            enqueue(record.jobs, record.last)
            work = true
        end
        head.is_held = true
    end
end
for id, head in pairs(heads) do
    if head.is_held then
        local flags, progress = head.bytes:sub(2, 2), head.bytes:sub(51, 66)
        if head.progress then
            flags, progress = struct.pack('B', struct.unpack('B', flags) % 2 + 2), head.progress
        end
        local counts = struct.pack('>I4I8I8I8', head.failures, head.steps, head.skipped, head.memos)
        call_all('RPUSH', KEYS[1] .. 's:' .. id, head.appended)
        call('SETRANGE', job_key .. id, 1, flags .. head.bytes:sub(3, 22) .. counts .. progress)
        news[#news + 1] = id
    end
end
tell(news, {}, work)
return answer
