-- How processes notify each other.

-- Notifies all processes: which jobs have changed, which of them have ended, whether there is work, whether a worker is gone,
-- and whether notes have changed. The process that calls knows most of it already, and passes over what it has sent itself; `EVERYBODY`
-- is none of them.
local EVERYBODY = string.rep('\0', 8)
local function notify(changed, ended, work, lost, notes, sender)
    if #changed > 0 or work or lost or notes then
        local flags, ids = (work and 1 or 0) + (lost and 2 or 0) + (notes and 4 or 0), table.concat(changed)
        local message = (sender or ARGV[1]) .. struct.pack('>BI4', flags, #ids / ID) .. ids .. table.concat(ended)
        call('PUBLISH', KEYS[1] .. 'news', message)
    end
end

