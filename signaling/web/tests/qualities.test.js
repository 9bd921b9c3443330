import assert from 'node:assert/strict';
import test from 'node:test';
import { layerName, layerOfRid, pinOfValue, qualityChoices, valueOfPin } from '../js/qualities.js';

test('qualities have names; the only one there is counts as high', () => {
  assert.deepEqual([0, 1, 2, 7].map((layer) => layerName('camera', layer)), ['low', 'medium', 'high', 'high']);
  assert.deepEqual([0, 1, 7].map((layer) => layerName('screen', layer)), ['low', 'high', 'high']);
  assert.equal(layerName('camera', layerOfRid('camera', 'h')), 'medium');
  assert.equal(layerName('screen', layerOfRid('screen', 'h')), 'low');
});

test('a choice stands for a pin and back', () => {
  assert.deepEqual(qualityChoices('camera').map((choice) => choice.label), ['Automatic', 'Low', 'Medium', 'High']);
  assert.deepEqual(qualityChoices('camera').map((choice) => pinOfValue(choice.value)), [null, 0, 1, 'best']);
  assert.deepEqual(qualityChoices('screen').map((choice) => pinOfValue(choice.value)), [null, 0, 'best']);
  for (const pin of [null, 0, 1, 'best']) {
    assert.equal(pinOfValue(valueOfPin(pin)), pin);
  }
});
