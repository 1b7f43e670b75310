// The pictures of one photo. `props.value` is what study_page.content returns: it names no method and no photo.
const NEAREST = 2;  // pixels of the screen for one of the picture from which pixels are shown as squares
let view, rendering = 0;

function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const letter = place => String.fromCharCode(65 + place);
const all = selector => [...element.querySelectorAll(selector)];

// Screen pixels for one picture pixel at which the whole picture is seen.
const fit = box => Math.min(box.clientWidth / view.width, box.clientHeight / view.height);

function draw() {
  element.querySelector('.study').classList.toggle('zoomed', view.zoom > 1);
  for (const box of all('.view')) {
    const scale = fit(box) * view.zoom;
    const half = [box.clientWidth / view.width / scale / 2, box.clientHeight / view.height / scale / 2];
    const [x, y] = [view.x, view.y].map((at, axis) => half[axis] > 0.5 ? 0.5 : Math.min(Math.max(at, half[axis]), 1 - half[axis]));
    const left = box.clientWidth / 2 - x * view.width * scale;
    const top = box.clientHeight / 2 - y * view.height * scale;
    for (const image of box.querySelectorAll('img')) {
      image.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
      image.style.imageRendering = scale * devicePixelRatio >= NEAREST ? 'pixelated' : 'auto';
    }
  }
}

// Zoom all pictures. `at` is the point of the picture, 0 to 1, that stays where it is.
function zoom(target, at = [view.x, view.y]) {
  const limit = 16 / fit(element.querySelector('.view'));
  const next = Math.min(Math.max(target, 1), Math.max(limit, 1));
  const kept = view.zoom / next;
  move(at[0] + (view.x - at[0]) * kept, at[1] + (view.y - at[1]) * kept, next);
}

function move(x, y, scale = view.zoom) {
  const room = 0.5 / scale;
  view = {...view, zoom: scale, x: Math.min(Math.max(x, room), 1 - room), y: Math.min(Math.max(y, room), 1 - room)};
  draw();
}

function keys(event) {
  const step = 0.1 / view.zoom;
  const actions = {
    '+': () => zoom(view.zoom * 1.5), '=': () => zoom(view.zoom * 1.5), '-': () => zoom(view.zoom / 1.5), '0': () => zoom(1),
    ArrowLeft: () => move(view.x - step, view.y), ArrowRight: () => move(view.x + step, view.y),
    ArrowUp: () => move(view.x, view.y - step), ArrowDown: () => move(view.x, view.y + step),
  };
  const chosen = event.currentTarget.closest('figure').querySelector(`input[value="${Number(event.key) - 1}"]`);
  if (chosen) actions[event.key] = () => chosen.click();
  if (!actions[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  actions[event.key]();
}

function wheel(event) {
  const box = event.currentTarget;
  if (!event.ctrlKey && document.activeElement !== box) return;  // the page scrolls
  event.preventDefault();
  const [bounds, scale] = [box.getBoundingClientRect(), fit(box) * view.zoom];
  const at = [
    view.x + (event.clientX - bounds.left - box.clientWidth / 2) / view.width / scale,
    view.y + (event.clientY - bounds.top - box.clientHeight / 2) / view.height / scale,
  ];
  zoom(view.zoom * Math.exp(-event.deltaY / 400), at);
}

function drag(event) {
  if (event.pointerType === 'touch' && view.zoom === 1) return;  // the page scrolls
  const box = event.currentTarget;
  const [start, scale] = [{...view, left: event.clientX, top: event.clientY}, fit(box) * view.zoom];
  box.setPointerCapture(event.pointerId);
  box.onpointermove = moved => move(
    start.x - (moved.clientX - start.left) / view.width / scale, start.y - (moved.clientY - start.top) / view.height / scale,
  );
  box.onpointerup = box.onpointercancel = () => { box.onpointermove = null; };
}

function picture(name, addresses, ranks) {
  const images = addresses.map((src, index) => make('img', {src, alt: '', class: index ? 'mask' : '', draggable: 'false'}));
  const box = make('div', {
    class: 'view', tabindex: '0', role: 'img', 'aria-label': `${name}. Plus and minus zoom, arrows move, 0 shows all.`,
    style: `aspect-ratio: ${view.width} / ${view.height}`, onkeydown: keys, onpointerdown: drag,
  }, ...images);
  box.addEventListener('wheel', wheel, {passive: false});
  const figure = make('figure', {});
  const full = make('button', {type: 'button', 'aria-label': `${name}: full screen`, onclick: () => {
    document.fullscreenElement ? document.exitFullscreen() : figure.requestFullscreen();
  }}, 'Full screen');
  figure.append(make('figcaption', {}, make('span', {}, name), full), box, ...ranks);
  return figure;
}

function rankOf(place, count) {
  const choices = Array.from({length: count}, (_, rank) => make('label', {}, make('input', {
    type: 'radio', name: `rank-${rendering}-${place}`, value: String(rank), 'data-place': String(place),
    // A rank that two pictures have is only said: arrow keys pass through ranks that are not meant.
    onchange: () => say(twice()),
  }), String(rank + 1)));
  return make('fieldset', {}, make('legend', {}, `Rank of ${letter(place)}`), ...choices);
}

function say(text) {
  element.querySelector('[role=status]').textContent = text;
}

// The pictures that have each rank.
function ranking() {
  const places = props.value.results.map(() => []);
  for (const chosen of all('input:checked')) places[Number(chosen.value)].push(Number(chosen.dataset.place));
  return places;
}

function twice() {
  const rank = ranking().findIndex(places => places.length > 1);
  return rank < 0 ? '' : `${ranking()[rank].map(letter).join(' and ')} have rank ${rank + 1}. Give each rank once.`;
}

function save() {
  const ranked = ranking().flat();
  const without = props.value.results.map((_, place) => place).filter(place => !ranked.includes(place)).map(letter);
  if (without.length) return say(`Give a rank to ${without.join(', ')} first.`);
  if (twice()) return say(twice());
  if (all('.view img').some(image => !image.complete || !image.naturalWidth)) {
    return say('Not all pictures are loaded. Wait a moment, or load the page again.');
  }
  say('Saving …');
  trigger('submit', {ticket: props.value.ticket, ranking: ranked});
}

function render() {
  const study = element.querySelector('.study');
  const value = props.value;
  rendering += 1;
  study.replaceChildren();
  study.classList.remove('pointed', 'zoomed');
  if (!value) return;
  const who = [make('span', {class: 'push'}, `You are ${value.volunteer}.`),
    make('button', {type: 'button', class: 'leave', onclick: () => trigger('clear')}, 'Somebody else')];
  const status = make('span', {role: 'status'}, value.message);
  if (!value.ticket) {
    study.append(make('div', {class: 'bar'}, make('strong', {}, `All ${value.count} photos are ranked. Thank you!`), ...who),
      make('div', {class: 'bar'}, status));
    return;
  }
  view = {zoom: 1, x: 0.5, y: 0.5, width: value.size[0], height: value.size[1]};
  const button = (text, label, act) => make('button', {type: 'button', 'aria-label': label, onclick: act}, text);
  const pixel = () => zoom(1 / fit(element.querySelector('.view')) / devicePixelRatio);
  const point = make('button', {type: 'button', class: 'point', 'aria-pressed': 'false', onclick: event => {
    const pressed = study.classList.toggle('pointed');
    event.currentTarget.setAttribute('aria-pressed', String(pressed));
  }}, 'What was pasted?');
  study.append(
    make('div', {class: 'bar'},
      make('strong', {class: 'progress'}, `Photo ${value.count + 1} of ${value.total}`),
      button('−', 'Zoom out', () => zoom(view.zoom / 1.5)), button('Whole', 'Whole picture', () => zoom(1)),
      button('1 : 1', 'Every pixel', pixel), button('+', 'Zoom in', () => zoom(view.zoom * 1.5)), point, ...who),
    make('p', {class: 'help'}, 'All pictures zoom and move together: drag a picture, turn the wheel with Ctrl, or use the ' +
      `keys +, −, arrows and 0 on a picture. The keys 1 to ${value.results.length} on a result give it that rank.`),
    make('div', {class: 'pictures'}, picture('Before', [value.composite, value.mask], []),
      ...value.results.map((address, place) => picture(`Result ${letter(place)}`, [address], [rankOf(place, value.results.length)]))),
    make('div', {class: 'bar'}, make('button', {type: 'button', class: 'save', onclick: save}, 'Save and go on'), status),
  );
  for (const image of all('.view img')) Object.assign(image.style, {width: `${view.width}px`, height: `${view.height}px`});
  const watcher = new ResizeObserver(() => study.contains(watcher.box) ? draw() : watcher.disconnect());
  for (const box of all('.view')) watcher.observe(watcher.box = box);
  draw();
  if (value.count) study.querySelector('.view').focus({preventScroll: true});
  if (value.count) study.scrollIntoView({block: 'start'});
}

watch('value', render);
render();
