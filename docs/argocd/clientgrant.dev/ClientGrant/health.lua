-- Health of a ClientGrant. The operator follows kstatus: observedGeneration, Ready and Stalled; while it works on
-- something Ready is not True. It is True of a grant that is not in force, too, where that is as it should be; the
-- message says which.

-- Status and conditions may be missing or of any shape: nothing here is taken for granted.
local function map(value)
  if type(value) == "table" then return value end
  return {}
end

local function text(value)
  if type(value) == "string" then return value end
  return nil
end

local metadata, status = map(obj.metadata), map(obj.status)
local conditions = {}
for _, condition in ipairs(map(status.conditions)) do
  local name = text(map(condition).type)
  if name ~= nil then conditions[name] = condition end
end

local function is(name, value)
  return map(conditions[name]).status == value
end

local function say(health, message)
  return {status = health, message = text(message)}
end

if metadata.deletionTimestamp ~= nil then
  return say("Progressing", "Being deleted")
end

local ready = map(conditions.Ready)
if status.observedGeneration ~= metadata.generation or conditions.Ready == nil then
  return say("Progressing", "Nobody has looked at this generation yet")
end
-- Still tried, and so Reconciling; but what should have ended has not.
if is("Ready", "False") and ready.reason == "RevocationOverdue" then
  return say("Degraded", ready.message)
end
if is("Stalled", "True") then
  return say("Degraded", ready.message)
end
if not is("Ready", "True") then
  return say("Progressing", ready.message)
end
-- Of a grant that is Ready this is said only where nothing is repaired: in mode Observe.
if is("Drifted", "True") then
  return say("Degraded", map(conditions.Drifted).message)
end
return say("Healthy", ready.message)
