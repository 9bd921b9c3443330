/**
 * Where the tiles of a meeting go: geometry only, in pixels.
 *
 * @typedef {{x: number, y: number, width: number, height: number}} Rect
 */

/** A camera tile is never wider than this times its height. */
export const ASPECT_MAX = 16 / 9;
/** Nor narrower, on a wide area: cameras are wide, and more would be cut away. */
export const ASPECT_MIN = 4 / 3;
/** On an upright phone tiles may be taller: faces still fit. */
export const ASPECT_MIN_UPRIGHT = 7 / 8;
/** Narrower than this a tile says nothing any more; the grid scrolls instead. */
export const TILE_WIDTH_MIN = 104;

/**
 * The grid of `count` tiles that covers most of an area.
 * @param {number} count
 * @param {number} width
 * @param {number} height
 * @param {number} gap
 * @param {number} [aspectMin]
 * @returns {{columns: number, rows: number, tileWidth: number, tileHeight: number}}
 */
export function bestGrid(count, width, height, gap, aspectMin = width >= height ? ASPECT_MIN : ASPECT_MIN_UPRIGHT) {
  let best = { columns: 1, rows: Math.max(count, 1), tileWidth: 0, tileHeight: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const cellWidth = (width - gap * (columns - 1)) / columns;
    const cellHeight = (height - gap * (rows - 1)) / rows;
    if (cellWidth <= 0 || cellHeight <= 0) {
      continue;
    }
    const tileWidth = Math.min(cellWidth, cellHeight * ASPECT_MAX);
    const tileHeight = Math.min(cellHeight, cellWidth / aspectMin);
    if (tileWidth * tileHeight > best.tileWidth * best.tileHeight + 0.5) {
      best = { columns, rows, tileWidth, tileHeight };
    }
  }
  return best;
}

/**
 * Lays `count` tiles into an area, every row centred. When they would become too small they
 * keep their least size and run out of the area at the bottom.
 * @param {number} count
 * @param {Rect} area
 * @param {number} gap
 * @param {{widthMin?: number, aspectMin?: number}} [limits]
 * @returns {Rect[]}
 */
export function gridRects(count, area, gap, { widthMin = TILE_WIDTH_MIN, aspectMin } = {}) {
  let { columns, rows, tileWidth, tileHeight } = bestGrid(count, area.width, area.height, gap, aspectMin);
  if (tileWidth < widthMin) {
    columns = Math.max(1, Math.floor((area.width + gap) / (widthMin + gap)));
    rows = Math.ceil(count / columns);
    tileWidth = (area.width - gap * (columns - 1)) / columns;
    tileHeight = tileWidth / ASPECT_MIN;
  }
  const used = rows * tileHeight + (rows - 1) * gap;
  const top = area.y + Math.max(0, (area.height - used) / 2);
  const rects = [];
  for (let index = 0; index < count; index += 1) {
    const row = Math.floor(index / columns);
    const inRow = Math.min(columns, count - row * columns);
    const rowWidth = inRow * tileWidth + (inRow - 1) * gap;
    rects.push({
      x: area.x + (area.width - rowWidth) / 2 + (index - row * columns) * (tileWidth + gap),
      y: top + row * (tileHeight + gap),
      width: tileWidth,
      height: tileHeight,
    });
  }
  return rects;
}

/**
 * The whole meeting: screens take the stage and cameras a strip beside or below it;
 * without screens the cameras take everything.
 * @param {{width: number, height: number, screens: number, cameras: number, gap: number}} meeting
 * @returns {{screens: Rect[], cameras: Rect[]}}
 */
export function arrange({ width, height, screens, cameras, gap }) {
  const all = { x: 0, y: 0, width, height };
  if (screens === 0) {
    return { screens: [], cameras: gridRects(cameras, all, gap) };
  }
  if (cameras === 0) {
    return { screens: stageRects(screens, all, gap), cameras: [] };
  }
  const { stage, strip } = width > height ? splitSideways(all, cameras, gap) : splitDownwards(all, cameras, gap);
  return { screens: stageRects(screens, stage, gap), cameras: gridRects(cameras, strip, gap, { widthMin: 0, aspectMin: ASPECT_MIN }) };
}

function splitSideways(all, cameras, gap) {
  const share = cameras > 8 ? 0.3 : 0.2;
  const stripWidthMax = Math.round(Math.min(Math.max(all.width * share, 120), cameras > 8 ? 420 : 280));
  // Tiles that are kept small by the height leave the rest of the width to the stage.
  const { columns, tileWidth } = bestGrid(cameras, stripWidthMax, all.height, gap, ASPECT_MIN);
  const stripWidth = Math.ceil(columns * tileWidth + (columns - 1) * gap);
  const stageWidth = all.width - stripWidth - gap;
  return {
    stage: { ...all, width: stageWidth },
    strip: { ...all, x: all.x + stageWidth + gap, width: stripWidth },
  };
}

function splitDownwards(all, cameras, gap) {
  const share = cameras > 3 ? 0.4 : 0.28;
  const stripHeight = Math.round(Math.max(all.height * share, 96));
  const stageHeight = all.height - stripHeight - gap;
  return {
    stage: { ...all, height: stageHeight },
    strip: { ...all, y: all.y + stageHeight + gap, height: stripHeight },
  };
}

/** Screens fill their share of the stage completely: the picture inside keeps its own shape. */
function stageRects(count, area, gap) {
  const sideways = area.width > area.height;
  const columns = sideways ? Math.ceil(Math.sqrt(count)) : 1;
  const rows = Math.ceil(count / columns);
  const width = (area.width - gap * (columns - 1)) / columns;
  const height = (area.height - gap * (rows - 1)) / rows;
  return Array.from({ length: count }, (_, index) => ({
    x: area.x + (index % columns) * (width + gap),
    y: area.y + Math.floor(index / columns) * (height + gap),
    width,
    height,
  }));
}
