import assert from 'node:assert/strict';
import test from 'node:test';
import { ASPECT_MAX, TILE_WIDTH_MIN, arrange, bestGrid, gridRects } from '../js/layout.js';

const overlap = (a, b) => a.x < b.x + b.width - 0.01 && b.x < a.x + a.width - 0.01
  && a.y < b.y + b.height - 0.01 && b.y < a.y + a.height - 0.01;

function assertFits(rects, width, height) {
  for (const [index, rect] of rects.entries()) {
    assert.ok(rect.x >= -0.01 && rect.y >= -0.01, 'a tile starts outside');
    assert.ok(rect.x + rect.width <= width + 0.01 && rect.y + rect.height <= height + 0.01, 'a tile ends outside');
    assert.ok(rect.width > 0 && rect.height > 0, 'a tile is empty');
    for (const other of rects.slice(index + 1)) {
      assert.ok(!overlap(rect, other), 'two tiles overlap');
    }
  }
}

test('one to thirty people fit a screen, side by side and inside', () => {
  for (let count = 1; count <= 30; count += 1) {
    const { cameras } = arrange({ width: 1248, height: 632, screens: 0, cameras: count, gap: 12 });
    assert.equal(cameras.length, count);
    assertFits(cameras, 1248, 632);
  }
});

test('columns follow the shape of the window', () => {
  assert.equal(bestGrid(2, 1248, 632, 12).columns, 2);
  assert.equal(bestGrid(2, 348, 620, 6).columns, 1);
  assert.equal(bestGrid(4, 1248, 632, 12).columns, 2);
  assert.equal(bestGrid(9, 1248, 632, 12).columns, 3);
  assert.equal(bestGrid(16, 1248, 632, 12).columns, 4);
});

test('a single person in a wide window is not stretched past the widest shape', () => {
  const [tile] = gridRects(1, { x: 0, y: 0, width: 2000, height: 500 }, 12);
  assert.ok(tile.width / tile.height <= ASPECT_MAX + 0.001);
  assert.ok(Math.abs(tile.x + tile.width / 2 - 1000) < 0.01, 'it is centred');
});

test('a last row that is not full is centred', () => {
  const rects = gridRects(5, { x: 0, y: 0, width: 1248, height: 632 }, 12);
  const last = rects.slice(3);
  const middle = (last[0].x + last[1].x + last[1].width) / 2;
  assert.ok(Math.abs(middle - 624) < 0.01);
});

test('a crowd on a phone keeps tiles that one can see, and scrolls', () => {
  const rects = gridRects(60, { x: 0, y: 0, width: 348, height: 600 }, 6);
  assert.ok(rects.every((rect) => rect.width >= TILE_WIDTH_MIN));
  assert.ok(rects.at(-1).y > 600);
  assert.ok(rects.every((rect) => rect.x >= 0 && rect.x + rect.width <= 348.01));
});

test('a shared screen gets most of the window, cameras all stay in it', () => {
  for (const [width, height] of [[1248, 632], [348, 620], [640, 330]]) {
    for (const count of [1, 2, 5, 9, 16]) {
      const { screens, cameras } = arrange({ width, height, screens: 1, cameras: count, gap: 8 });
      assertFits([...screens, ...cameras], width, height);
      assert.ok(screens[0].width * screens[0].height > 0.5 * width * height);
    }
  }
});

test('several screens share the stage', () => {
  const { screens, cameras } = arrange({ width: 1248, height: 632, screens: 3, cameras: 4, gap: 12 });
  assert.equal(screens.length, 3);
  assertFits([...screens, ...cameras], 1248, 632);
});
