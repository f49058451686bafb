export { createClient } from './generated/client/index.js';
export * from './generated/index.js';
