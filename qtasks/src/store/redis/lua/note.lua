-- ARGV from 2: how many changes; of each the kind and the name of the note, the version that was seen or nothing, the new
-- version or nothing, and the note; the keys of jobs, as `claim` takes them; and the jobs, as `enqueue` takes them.
-- Gives whether the changes were made: all of them, or none.

local VERSION = 16
local jobs = 3 + 5 * tonumber(ARGV[2])

for at = 3, jobs - 1, 5 do
    local note, seen, new = call('HGET', key('notes:', ARGV[at]), ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3]
    local found = note and note:sub(1, VERSION) or ''
    -- A change that has been made already counts as made: the new version is there, or nothing where that is to be.
    if found ~= seen and found ~= new then
        return 0
    end
end
-- On a full server notes are changed, but with no jobs: those are refused before anything is written.
local from, skip, joined, late = claim(jobs)
if from <= #ARGV then
    enqueue(from, #ARGV, skip)
    finish(late)
    write_tallies()
end
for at = 3, jobs - 1, 5 do
    local notes, name = key('notes:', ARGV[at]), ARGV[at + 1]
    if ARGV[at + 3] == '' then
        call('HDEL', notes, name)
    else
        insist('HSET', notes, name, ARGV[at + 4])
    end
end
notify(holders_of(joined), {}, from <= #ARGV, false, jobs > 3)
return 1
