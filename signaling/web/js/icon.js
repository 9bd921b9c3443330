/** Icons from the sprite `/icons.svg`. */

const SVG = 'http://www.w3.org/2000/svg';

/**
 * A new icon.
 * @param {string} name a symbol's id in the sprite
 * @returns {SVGSVGElement}
 */
export function makeIcon(name) {
  const icon = document.createElementNS(SVG, 'svg');
  icon.setAttribute('class', 'icon');
  icon.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS(SVG, 'use');
  use.setAttribute('href', `/icons.svg#${name}`);
  icon.append(use);
  return icon;
}

/**
 * Shows another icon in an element that has one.
 * @param {Element} element
 * @param {string} name
 */
export function setIcon(element, name) {
  element.querySelector('use')?.setAttribute('href', `/icons.svg#${name}`);
}
