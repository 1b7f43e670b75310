// The stage of the Compose tab. Gradio runs this when the tab is shown, with `element`, `trigger`, `props` and `watch`.
// A place is x and y of the object's centre in percent of the background, its size in percent of the background's
// shorter side, its rotation in degrees counterclockwise, and whether it is mirrored: what the sliders say.
const fingers = window.matchMedia('(pointer: coarse)').matches;
const MARGIN = fingers ? 24 : 36;  // pixels around the background, so that handles outside of it can be grabbed
const TALLEST = 640;
const QUIET = 400;  // milliseconds after which the sliders have followed
const box = element.querySelector('.stage');
const canvas = box.querySelector('.canvas');
const missing = box.querySelector('.missing');
const told = element.querySelector('.told');

const stage = new Konva.Stage({container: canvas, width: 1, height: 1});
const pictures = new Konva.Layer({x: MARGIN, y: MARGIN});
const handles = new Konva.Layer();
const background = new Konva.Image({preventDefault: false});  // a finger on it scrolls the page
const harmonized = new Konva.Image({listening: false});  // the whole result, while the object stays where it was pasted
const object = new Konva.Image({name: 'object', draggable: true});
const frame = new Konva.Transformer({
  nodes: [object],
  enabledAnchors: ['top-left', 'top-right', 'bottom-left', 'bottom-right'],
  keepRatio: true,
  shiftBehavior: 'none',
  flipEnabled: false,
  rotateAnchorOffset: fingers ? 34 : 26,
  anchorSize: fingers ? 24 : 14,
  padding: fingers ? 10 : 0,  // so that handles leave small objects free
  anchorStroke: '#0f766e',
  borderStroke: '#0f766e',
  borderStrokeWidth: 2,
  anchorStrokeWidth: 2,
  anchorStyleFunc: (anchor) => { if (anchor.hasName('rotater')) anchor.cornerRadius(100); },
  boundBoxFunc: (before, after) => {
    const size = place.size * after.width / (object.width() || 1);
    return size < props.least_size || size > props.most_size ? before : after;
  },
});
stage.add(pictures, handles);
pictures.add(background, harmonized, object);
handles.add(frame);

let place = {x: 50, y: 50, size: 50, rotation: 0, flip: false};
let shown = {};  // of cutout and background: image, width and height
let width = 0, height = 0;  // of the background on the stage
let softness = [0, false];  // feather and clean edges: what else the result depends on
let result = null;  // its picture, and the arrangement that was pasted
let busy = false;  // dragged, scaled or turned right now
let quietAt = 0;  // until then, the sliders may still say an older place

const clamped = (value, low, high) => Math.min(Math.max(value, low), high);
const rounded = (value) => Math.round(value * 100) / 100;

function draw() {
  const both = Boolean(shown.cutout && shown.background);
  object.visible(both);
  frame.visible(both);
  if (both && width) {
    const {cutout} = shown;
    const longer = place.size / 100 * Math.min(width, height);
    const scale = longer / Math.max(cutout.width, cutout.height);
    object.setAttrs({
      image: place.flip ? cutout.mirrored : cutout.image,
      x: place.x / 100 * width, y: place.y / 100 * height,
      width: scale * cutout.width, height: scale * cutout.height,
      offsetX: scale * cutout.width / 2, offsetY: scale * cutout.height / 2,
      scaleX: 1, scaleY: 1, rotation: -place.rotation,
    });
    // the handle that turns lies below an object that reaches the top
    const top = object.getClientRect({relativeTo: pictures}).y;
    if (!busy) frame.rotateAnchorAngle(top < 0 ? 180 : 0);
    frame.forceUpdate();
  }
  dress();
  stage.batchDraw();
}

// The result is shown where it was asked for, the plain paste everywhere else.
function dress() {
  const arrangement = [place.x, place.y, place.size, place.rotation, place.flip, ...softness];
  const done = Boolean(result) && !busy && JSON.stringify(arrangement) === result.arrangement;
  if (done) harmonized.setAttrs({image: result.image, width, height});
  harmonized.visible(done);
  object.opacity(done ? 0 : 1);  // it can still be grabbed
}

function fit() {
  const picture = shown.background || shown.cutout;
  const space = box.clientWidth - 2 * MARGIN;
  if (!picture || space <= 0) return;  // the tab is hidden
  width = Math.min(space, TALLEST * picture.width / picture.height);
  height = width * picture.height / picture.width;
  stage.size({width: width + 2 * MARGIN, height: height + 2 * MARGIN});
  pictures.clip({x: 0, y: 0, width, height});
  background.setAttrs({image: picture.image, width, height});
  draw();
}

async function picture(sent) {
  if (!sent) return null;
  const image = new Image();
  image.src = sent.file.url;
  await image.decode();
  const mirrored = document.createElement('canvas');
  mirrored.width = image.naturalWidth;
  mirrored.height = image.naturalHeight;
  const context = mirrored.getContext('2d');
  context.scale(-1, 1);
  context.drawImage(image, -image.naturalWidth, 0);
  return {image, mirrored, width: sent.width, height: sent.height};
}

let loading = 0;
async function load() {
  const turn = ++loading;
  const sent = props.value || {};
  try {
    const [cutout, behind] = await Promise.all([picture(sent.cutout), picture(sent.background)]);
    if (turn !== loading) return;  // newer pictures are on their way
    shown = {cutout, background: behind};
    missing.textContent = cutout && behind ? ''
      : behind ? 'Upload a cut-out with transparency, or a photo and its mask, to place it here.'
      : cutout ? 'Upload a background to place the cut-out on.'
      : 'Upload a cut-out and a background. Then drag, scale and turn the cut-out here.';
  } catch (error) {
    if (turn !== loading) return;
    shown = {};
    missing.textContent = 'The pictures could not be loaded: upload them again.';
  }
  canvas.hidden = !(shown.cutout || shown.background);
  fit();
}

// The object's place, as it is dragged, scaled or turned.
function read() {
  place.x = rounded(clamped(object.x() / width * 100, 0, 100));
  place.y = rounded(clamped(object.y() / height * 100, 0, 100));
  const size = place.size * object.scaleX();
  place.rotation = rounded(((180 - object.rotation()) % 360 + 360) % 360 - 180);
  return {...place, size: rounded(clamped(size, props.least_size, props.most_size))};
}

let now = place;  // while busy, `place` keeps the size at the start
let telling = 0, settling = 0, pressed = 0;  // timers
function moved(event) {
  now = busy ? read() : place;
  quietAt = performance.now() + QUIET;
  clearTimeout(settling);
  settling = setTimeout(() => trigger('follow'), QUIET + 50);
  if (event === 'release') {
    clearTimeout(telling);
    telling = 0;
    trigger('release');
  } else if (!telling) {
    telling = setTimeout(() => { telling = 0; trigger('input'); }, 100);
  }
}

function letGo() {
  clearTimeout(pressed);
  now = busy ? read() : place;
  busy = false;
  place = {...now};
  draw();
  told.textContent = `Across ${place.x} %, down ${place.y} %, size ${place.size} %, rotation ${place.rotation} degrees`;
  moved('release');
}

// What the sliders get.
box.place = () => [now.x, now.y, now.size, now.rotation];

// What the sliders say.
box.follow = (x, y, size, rotation, flip, ...others) => {
  place.flip = flip;
  softness = others;
  if (busy) return;  // `letGo` draws
  if (performance.now() >= quietAt) now = place = {x, y, size, rotation, flip};
  draw();
};

// The result, and the arrangement that it is of.
let showing = 0;
box.show = async (pair, arrangement) => {
  const turn = ++showing;
  result = null;
  draw();
  if (!pair?.[1]?.url || !arrangement) return;
  const image = new Image();
  image.src = pair[1].url;
  try {
    await image.decode();
  } catch {
    return;  // the plain paste stays
  }
  if (turn !== showing) return;
  const small = document.createElement('canvas');  // photos of many megapixels would be slow to draw
  const share = Math.min(1, 1800 / Math.max(image.naturalWidth, image.naturalHeight));
  small.width = Math.max(1, share * image.naturalWidth);
  small.height = Math.max(1, share * image.naturalHeight);
  small.getContext('2d').drawImage(image, 0, 0, small.width, small.height);
  result = {image: small, arrangement: JSON.stringify(arrangement)};
  draw();
};

object.dragBoundFunc((at) => ({
  x: clamped(at.x, MARGIN, MARGIN + width),
  y: clamped(at.y, MARGIN, MARGIN + height),
}));
object.on('dragstart transformstart', () => {
  clearTimeout(pressed);
  busy = true;
  dress();
});
object.on('dragmove transform', () => moved('input'));
object.on('dragend transformend', letGo);
object.on('mouseenter', () => { box.style.cursor = 'move'; });
object.on('mouseleave', () => { box.style.cursor = ''; });
background.on('pointerclick', ({evt}) => {
  if (!shown.cutout || !shown.background || evt.button > 0) return;
  const at = pictures.getRelativePointerPosition();
  place = {...place, x: rounded(clamped(at.x / width * 100, 0, 100)), y: rounded(clamped(at.y / height * 100, 0, 100))};
  letGo();
});
stage.on('mousedown touchstart', () => box.focus({preventScroll: true}));

box.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey && !'[]'.includes(event.key)) return;
  if (!shown.cutout || !shown.background || busy) return;
  const step = event.shiftKey ? 0.1 : 1;
  const change = {
    ArrowLeft: {x: -step}, ArrowRight: {x: step}, ArrowUp: {y: -step}, ArrowDown: {y: step},
    '+': {size: 1}, '=': {size: 1}, '-': {size: -1}, '_': {size: -1},
    '[': {rotation: 1}, ']': {rotation: -1},
  }[event.key];
  if (!change) return;
  event.preventDefault();
  place = {
    ...place,
    x: rounded(clamped(place.x + (change.x || 0), 0, 100)),
    y: rounded(clamped(place.y + (change.y || 0), 0, 100)),
    size: rounded(clamped(place.size + (change.size || 0), props.least_size, props.most_size)),
    rotation: rounded(clamped(place.rotation + (change.rotation || 0), -180, 180)),
  };
  draw();
  moved('input');
  clearTimeout(pressed);
  pressed = setTimeout(letGo, 600);
});

new ResizeObserver(() => { if (!busy) fit(); }).observe(box);
watch('value', load);
load();
trigger('follow');
