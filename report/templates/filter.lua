-- What pandoc's own writers leave out: see each function. Used for both outputs.

-- In a PDF the first and the last three rows of a table stay together: empty cells beside them span them.
local function keep_rows(table)
  local body = table.bodies[1].body
  if #body < 6 then return end
  local function nothing(rows)
    return pandoc.Cell({}, "AlignDefault", rows, 1, pandoc.Attr("", {}, { ["typst:inset"] = "0pt" }))
  end
  table.colspecs:insert({ "AlignDefault", table.colspecs[1][2] and 0.001 or nil })
  for _, row in ipairs(table.head.rows) do row.cells:insert(nothing(1)) end
  for i, row in ipairs(body) do
    if i == 1 or i == #body - 2 then
      row.cells:insert(nothing(3))
    elseif i > 3 and i < #body - 2 then
      row.cells:insert(nothing(1))
    end
  end
end

-- Separators of equal length say nothing of widths, but pandoc makes equal columns of them once a line is long.
function Table(table)
  local first, equal = table.colspecs[1][2], true
  for _, spec in ipairs(table.colspecs) do equal = equal and spec[2] == first end
  if equal then
    for _, spec in ipairs(table.colspecs) do spec[2] = nil end
  end
  if FORMAT == "typst" then keep_rows(table) end
  return table
end

-- Browsers break lines between a formula and the full stop after it.
local function keep_punctuation(inlines)
  for i = #inlines - 1, 1, -1 do
    local formula, next = inlines[i], inlines[i + 1]
    if formula.t == "Math" and next.t == "Str" and next.text:match("^[-,.;:!?)%%]") then
      inlines:remove(i + 1)
      inlines[i] = pandoc.Span({ formula, next }, { class = "nowrap" })
    end
  end
  return inlines
end

if FORMAT ~= "typst" then
  Inlines = keep_punctuation
  return
end

local function typst_string(text)
  return '"' .. text:gsub("\\", "\\\\"):gsub('"', '\\"'):gsub("%s+", " ") .. '"'
end

-- PDF/UA asks for the alternative text of each formula: its TeX source.
function Math(math)
  local formula = pandoc.write(pandoc.Pandoc({ pandoc.Plain({ math }) }), "typst"):gsub("%s+$", "")
  local block = math.mathtype == "DisplayMath" and "true" or "false"
  return pandoc.RawInline("typst",
    "#math.equation(block: " .. block .. ", alt: " .. typst_string(math.text) .. ", " .. formula .. ".body)")
end

-- The numbers of sections, figures and tables are set by functions of the template that have these names.
function Span(span)
  local name = span.classes[1]
  if name == "number" or name == "section-number" then
    return { pandoc.RawInline("typst", "#" .. name .. "[") } .. span.content .. { pandoc.RawInline("typst", "]") }
  end
end
