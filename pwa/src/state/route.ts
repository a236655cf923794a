/** Where a person is: in the fragment of the address, so that "back" works and a reload stays. */

const PLAIN = [
  'home',
  'select',
  'confirm',
  'history',
  'enrol',
  'settings',
  'help',
  'troubles',
  'shared',
] as const;

export type Route =
  | { readonly screen: (typeof PLAIN)[number] }
  | { readonly screen: 'study'; readonly id: string };

/** Return the route of a fragment; what is unknown leads home. */
export function routeOf(fragment: string): Route {
  const [screen = '', id] = fragment.replace(/^#\/?/, '').split('/');
  if (screen === 'study' && id) return { screen, id };
  const found = PLAIN.find((name) => name === screen);
  return { screen: found ?? 'home' };
}

/** Return the fragment of a route. Only random ids stand in it. */
export function hashOf(route: Route): string {
  if (route.screen === 'home') return '#/';
  return route.screen === 'study' ? `#/study/${route.id}` : `#/${route.screen}`;
}
